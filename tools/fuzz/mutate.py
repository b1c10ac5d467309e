"""Damage, drawn at random: to bytes, to the tables of a `.tflite` file, to JSON, to arrays.

Every function takes the random generator that decides, and is the same for the same one.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import random
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_INTS = (-1, 0, 1, 2, 3, 127, 128, 255, 256, 32767, 65536, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
_FLOATS = (math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e-45, 1e-38, 1e-9, 3e38, -3e38, 1.0)
_TEXTS = (b"", b"\0", b"\xff\xfe", b"x" * 3000, b"../../x", b"\x1b[2J", b"a\nb", b"serving_default")


# --- bytes --------------------------------------------------------------------------------------


def damage_bytes(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Flips, cuts, overwrites, repeats and splices, one to four times."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        at = rng.randrange(len(body)) if body else 0
        how = rng.randrange(8)
        if how == 0 or not body:
            body[at:at] = rng.randbytes(rng.choice((1, 4, 16)))
        elif how in (1, 2):
            body[at] ^= 1 << rng.randrange(8)
        elif how == 3:
            body[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 4:  # What may be a length or an offset.
            word = rng.choice((0, 1, 4, len(body), rng.randrange(len(body) + 1), *_INTS[:13]))
            body[at & ~3 : (at & ~3) + 4] = struct.pack("<I", word & 0xFFFFFFFF)
        elif how == 5:
            del body[at : at + rng.choice((1, 4, 64, len(body)))]
        elif how == 6:
            body[at:at] = body[at : at + rng.choice((4, 32, 256))]
        else:
            other = rng.choice(others) if others else bytes(body)
            start = rng.randrange(len(other) + 1)
            size = rng.choice((8, 64, 512))
            body[at : at + size] = other[start : start + size]
    return bytes(body)


# --- the tables of a model ----------------------------------------------------------------------


def damage_model(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Replaces one to three fields of a model's tables by values that nobody expects."""
    for _ in range(20):  # What a field cannot hold at all does not become a file.
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        if model.metadata and rng.random() < 0.1:
            note = rng.choice(model.metadata)
            blob = model.buffers[note.buffer]
            text = b"" if blob.data is None else bytes(bytearray(blob.data))
            blob.data = np.frombuffer(damage_json(text, rng), np.uint8)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            sites = _sites(model)
            # First which field of which table, then of which of them: rare ones get their turn.
            kind = rng.choice(sorted(sites))
            owner = rng.choice(sites[kind])
            setattr(owner, kind[1], _field(getattr(owner, kind[1]), kind, sites, rng))
        with contextlib.suppress(Exception):
            builder = flatbuffers.Builder(4096)
            builder.Finish(model.Pack(builder), b"TFL3")
            return bytes(builder.Output())
    return damage_bytes(data, rng, others)


def _sites(model: Any) -> dict[tuple[str, str], list[Any]]:
    """(class, field) -> the tables that have it."""
    found: dict[tuple[str, str], list[Any]] = {}
    todo = [model]
    while todo:
        table = todo.pop()
        for name, value in vars(table).items():
            found.setdefault((type(table).__name__, name), []).append(table)
            if _is_table(value):
                todo.append(value)
            elif isinstance(value, list):
                todo += [v for v in value if _is_table(v)]
    return found


def _is_table(value: Any) -> bool:
    return type(value).__module__ == schema.__name__


def _field(value: Any, kind: tuple[str, str], sites: Any, rng: random.Random) -> Any:
    if rng.random() < 0.1:
        return None
    if rng.random() < 0.15:  # What the same field holds elsewhere.
        return copy.copy(getattr(rng.choice(sites[kind]), kind[1]))
    if value is None:
        return rng.choice((None, [], [0], [-1], b"x", list(_INTS[:4])))
    if isinstance(value, (bool, np.bool_)):
        return not value
    if isinstance(value, (int, np.integer)):
        return _whole(int(value), rng)
    if isinstance(value, (float, np.floating)):
        return rng.choice(_FLOATS)
    if isinstance(value, (bytes, str)):
        text = value.encode() if isinstance(value, str) else value
        return rng.choice((*_TEXTS, text + b"\0", text + b"x", text[:-1], text[::-1]))
    if isinstance(value, (list, np.ndarray)):
        return _vector(value, rng)
    return None if rng.random() < 0.5 else copy.copy(value)


def _whole(value: int, rng: random.Random) -> int:
    near = (value + 1, value - 1, value * 2, -value, rng.randrange(300))
    return rng.choice(near) if rng.random() < 0.5 else rng.choice(_INTS)


def _vector(values: Any, rng: random.Random) -> Any:
    items = list(values)
    how = rng.randrange(7)
    if how == 0 or not items:
        return []
    at = rng.randrange(len(items))
    if how == 1:
        del items[at]
    elif how == 2:
        items += items[: rng.choice((1, 4, 64))]
    elif how == 3:
        rng.shuffle(items)
    elif how == 4:
        items.insert(at, copy.copy(items[rng.randrange(len(items))]))
    elif isinstance(items[0], (int, float, np.number)):
        real = isinstance(items[0], (float, np.floating))
        new = rng.choice(_FLOATS) if real else _whole(int(items[at]), rng)
        items = [new] * len(items) if how == 5 else [*items[:at], new, *items[at + 1 :]]
    else:
        items[at] = items[rng.randrange(len(items))]
    if isinstance(values, np.ndarray):
        return np.array(items).astype(values.dtype)
    return items


# --- JSON ---------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 10**30, -(10**400), 0.5, -0.0, 1e308, 1e-46),
    *(math.nan, math.inf, -math.inf, "", "x", "1", "\0", "\ud800", "int8", "int16", "float32"),
    *([], {}, [1], [None], [[1.0]], [1.0, -1.0], [math.inf], ["int8"], {"a": 1}, {"scale": 1.0}),
)


def damage_json(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Replaces, drops, swaps and nests values of a JSON document."""
    body = None
    with contextlib.suppress(ValueError):  # It may have been damaged before.
        body = json.loads(data)
    if body is None or rng.random() < 0.15:
        return damage_bytes(data, rng, others)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        sites = list(_places(body))
        if not sites:
            break
        owner, key = rng.choice(sites)
        other, elsewhere = rng.choice(sites)
        how = rng.randrange(8)
        if how == 0:
            del owner[key]
        elif how == 1:
            owner[key] = copy.deepcopy(other[elsewhere])
        elif how == 2:
            owner[key] = [owner[key]] * rng.choice((1, 2, 5))
        elif how == 3 and isinstance(owner, dict):
            owner[rng.choice(("x", "", "0", "-1", str(10**30), key + "\0"))] = owner.pop(key)
        elif how == 4 and isinstance(owner[key], (int, float)):
            owner[key] = -owner[key] if rng.random() < 0.5 else owner[key] * 1000
        else:
            owner[key] = copy.deepcopy(rng.choice(_VALUES))
    if rng.random() < 0.01:
        return b"[" * 100_000
    return json.dumps(body).encode()


def _places(body: Any) -> Any:
    for key in list(body) if isinstance(body, dict) else range(len(body)):
        yield body, key
        if isinstance(body[key], (dict, list)):
            yield from _places(body[key])


# --- arrays -------------------------------------------------------------------------------------


def damage_npz(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Changes types, shapes, values and names of arrays, or the bytes of one."""
    if rng.random() < 0.2:
        return damage_bytes(data, rng, others)
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    raw: dict[str, bytes] = {}
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(sorted(arrays)) if arrays else ""
        how = rng.randrange(10)
        if not name or how == 0:
            arrays.pop(name, None)
        elif how == 1:
            arrays[rng.choice(("y", "label", "x", "", "a/b", "\x01", name + "_"))] = arrays.pop(
                name
            )
        elif how == 2:
            raw[name] = damage_bytes(_npy(arrays[name]), rng)
        elif how == 3 and name == "header":
            text = damage_json(arrays[name].tobytes(), rng)
            arrays[name] = np.frombuffer(text, np.uint8)
        else:
            arrays[name] = damage_array(arrays[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            # The checksum is right, as in a file that somebody wrote so.
            archive.writestr(f"{name}.npy", raw.get(name) or _npy(array))
    return stream.getvalue()


def damage_npy(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """The same of a `.npy` file."""
    if rng.random() < 0.5:
        return damage_bytes(data, rng, others)
    return _npy(damage_array(np.load(io.BytesIO(data)), rng))


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


_DTYPES = (
    *("complex64", "complex128", "object", "bool", "int8", "uint64", "float16", "float64", "U3"),
    *("S2", "datetime64[s]", "timedelta64[s]", ">f4", ">i8", "longdouble", "V4"),
)


def damage_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array of another type, shape or with other values."""
    how = rng.randrange(7)
    with contextlib.suppress(Exception), np.errstate(all="ignore"):
        if how == 0:
            return array.astype(rng.choice(_DTYPES))
        if how == 1:
            shapes = [(-1,), (), (0,), (1, *array.shape), (*array.shape, 1), array.shape[1:]]
            return np.resize(array, rng.choice(shapes)) if how else array
        if how == 2:
            return array[: rng.choice((0, 1, len(array) - 1))]
        if how == 3:
            return np.concatenate([array, array[: rng.choice((1, len(array)))]])
        if how == 4:
            return np.asfortranarray(array.T if rng.random() < 0.5 else array)
        values = _FLOATS if array.dtype.kind == "f" else _INTS
        new = array.copy()
        flat = new.reshape(-1)
        where = slice(None) if how == 5 else rng.randrange(flat.size)
        flat[where] = np.array(rng.choice(values)).astype(array.dtype)
        return new
    return array.astype("complex64") if array.dtype.kind in "iufb" else array


# --- texts --------------------------------------------------------------------------------------

_WORDS = (
    b",",
    b",,",
    b"\n\n",
    b"\0",
    b'"',
    b"\xff",
    b"nan",
    b"1e999",
    b"-1",
    b"label",
    b"/dev/null",
)


def damage_text(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Puts odd words into a table of text."""
    if rng.random() < 0.5:
        return damage_bytes(data, rng, others)
    parts = data.split(b",")
    for _ in range(rng.choice((1, 2, 3))):
        parts[rng.randrange(len(parts))] = rng.choice((*_WORDS, *parts))
    return b",".join(parts)


def damage_records(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Damages what records hold; their checksums are right in two of three."""
    from tfq.data.crc32c import masked_crc32c

    if rng.random() < 0.33:
        return damage_bytes(data, rng, others)
    out, at = b"", 0
    hit = rng.random()
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        body = data[at + 12 : at + 12 + size]
        if rng.random() < hit:
            body = damage_bytes(body, rng)
        lies = rng.random() < 0.05
        length = struct.pack(
            "<Q", rng.choice((0, 1, 2**31, 2**62, 2**64 - 1)) if lies else len(body)
        )
        out += length + struct.pack("<I", masked_crc32c(length)) + body
        out += struct.pack("<I", masked_crc32c(body))
        at += 16 + size
    return out


Mutator = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
