"""What is damaged: small sound files of every kind that tfq reads, and what reads them.

Models are those of the tests: one op each, from the table of ops, and some of several ops.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import sys
import tempfile
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "graph")]

from one_op import Case as OpCase  # noqa: E402
from one_op import build  # noqa: E402
from op_cases import CASES  # noqa: E402
from small_models import ACT, Net, cnn  # noqa: E402
from tfrecord_files import example, record  # noqa: E402

from tfq.convert import convert_model  # noqa: E402
from tfq.equalize import with_changes  # noqa: E402
from tfq.graph.interface import read_interface  # noqa: E402
from tfq.graph.model import Model, Op, Tensor  # noqa: E402
from tfq.graph.numerics import quantize  # noqa: E402
from tfq.graph.optable import Kind, spec  # noqa: E402
from tfq.plan.plan import Plan  # noqa: E402
from tfq.rewrite.prepare import prepare  # noqa: E402

SAMPLES = 6


@dataclasses.dataclass(frozen=True)
class Seed:
    """Files, which of them is damaged, and what is run on them.

    Attributes:
      target: what is tried: "inspect", "convert", "evaluate", "plan", "statistics", "data" or
        "archive".
      command: of `targets.COMMANDS`.
      argv: its arguments; files are in the current folder.
      files: name -> content.
      subject: the file that is damaged.
      outputs: files that the command writes when it is done.
      digest: the JSON file that has the SHA-256 of the subject in it, or "". It follows the damage
        mostly, so that what reads the subject comes to see it.
    """

    target: str
    command: str
    argv: tuple[str, ...]
    files: Mapping[str, bytes]
    subject: str
    outputs: tuple[str, ...] = ()
    digest: str = ""


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def samples_of(model: bytes, labels: bool = False) -> bytes:
    """Samples that fit a model, as `.npz`."""
    rng = np.random.default_rng(0)
    arrays = {}
    for spec_of in read_interface(Model.from_bytes(model)).inputs:
        shape = (SAMPLES * max((1, *spec_of.shape[:1])), *spec_of.shape[1:])
        values = rng.uniform(0, 3, shape)
        whole = spec_of.dtype in ("int32", "int64", "bool")
        arrays[spec_of.name] = values.astype(spec_of.dtype if whole else "float32")
    if labels:
        arrays["y"] = np.arange(SAMPLES) % 3
    return npz(**arrays)


def branches() -> bytes:
    """Two inputs, two outputs, values moved about between layers."""
    net = Net(3)
    a, b = net.input(1, 6, 6, 3, name="a"), net.input(1, 6, 6, 3, name="b")
    x = net.concat(net.conv(a, 4, act=ACT.RELU6), net.conv(b, 4))
    x = net.op("LEAKY_RELU", x, options=None)
    x = net.op("TRANSPOSE", x, net.const([0, 2, 1, 3], "int32"), shape=(1, 4, 4, 8))
    flat = net.reshape(x, 1, 128)
    y = net.softmax(net.dense(flat, 4, act=ACT.RELU), out="scores")
    z = net.op("LOGISTIC", net.op("MUL", net.mean(x), 0.5), out="gate")
    return net.bytes(y, z)


def trained() -> bytes:
    """A dense layer with the ranges of training around it."""
    net = Net(5)
    ends = {"min": -3.0, "max": 3.0, "numBits": 8}
    x = net.op("FAKE_QUANT", net.input(2, 6, name="x"), **ends)
    y = net.op("FAKE_QUANT", net.dense(x, 3, act=ACT.RELU), **ends)
    return net.bytes(y)


def lookup() -> bytes:
    """Rows of a table by index: what runs on some values and not on others."""
    net = Net(6)
    i = net.input(1, 4, name="i", dtype="int32")
    table = net.const(net.rng.normal(0, 1, (5, 3)))
    rows = net.op("GATHER", table, i, shape=(1, 4, 3), dtype="float32")
    return net.bytes(net.dense(net.reshape(rows, 1, 12), 3))


def free_batch() -> bytes:
    """A first dimension that the file leaves open."""
    model = Model.from_bytes(cnn(4))
    for t in (*model.main.inputs, *(op.outputs[0] for op in model.main.ops)):
        t.signature = (-1, *t.shape[1:])
    return model.to_bytes()


def fixtures() -> dict[str, bytes]:
    """Recurrent models and loops."""
    names = ("fused_lstm_sequences", "while_on_data", "while_nested", "while_growing", "lstm")
    return {n: (TESTS / "unroll" / "data" / f"{n}.tflite").read_bytes() for n in names}


def _options(**values: float | bool) -> bytes:
    """The options of a custom op."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in values.items():
            builder.Key(key)
            builder.Add(value)
    return bytes(builder.Finish())


def spectrum() -> bytes:
    """A custom op that LiteRT has, in front of a float layer."""
    net = Net(8)
    sound = net.reshape(net.input(1, 64, name="sound"), 64, 1)
    rows = net.op("CUSTOM", sound, shape=(1, 7, 9))
    net.ops[-1].custom_code = "AudioSpectrogram"
    net.ops[-1].custom_options = _options(window_size=16, stride=8, magnitude_squared=True)
    return net.bytes(net.dense(net.reshape(rows, 1, 63), 3))


def verified(content: bytes) -> bytes:
    """What LiteRT's debugger adds to an integer model: a custom op that LiteRT has."""
    model = Model.from_bytes(content)
    last = model.main.ops[-1].outputs[0]
    real, difference = (Tensor(n, last.shape, "float32") for n in ("real", "difference"))
    compared = Op("CUSTOM", [last, real], [difference], custom_code="NumericVerify")
    compared.custom_options = _options(tolerance=5.0, log_if_failed=False)
    model.main.ops += [Op("DEQUANTIZE", [last], [real], version=2), compared]
    return model.to_bytes()


@functools.cache
def float_models() -> dict[str, bytes]:
    several = {"cnn": cnn(), "branches": branches(), "trained": trained(), "lookup": lookup()}
    return {**several, "free_batch": free_batch(), "spectrum": spectrum(), **fixtures()}


@functools.cache
def op_models(dtype: str) -> dict[str, bytes]:
    """One op each, in float32, int8 or int16, as far as there is a kernel."""
    found = {}
    for case in CASES:
        row = spec(case.op)
        if row is not None and dtype in row.versions and isinstance(case, OpCase):
            built = build(case, dtype, row.kind, row.fixed)
            found[str(case)] = built.model.to_bytes()
    return found


@functools.cache
def converted() -> dict[str, Any]:
    """The results of converting the first model, with the files that they are made of."""
    model = float_models()["cnn"]
    with np.load(io.BytesIO(samples_of(model, labels=True))) as data:
        result = convert_model(model, dict(data), keep_histograms=True)
    with tempfile.TemporaryDirectory() as name:
        path = os.path.join(name, "s.npz")
        assert result.statistics is not None
        result.statistics.save(path)
        statistics = Path(path).read_bytes()
    return {"model": result.model, "plan": result.plan.to_json(), "statistics": statistics}


def equalized() -> bytes:
    """A result that says in its metadata which channels were scaled."""
    model = float_models()["cnn"]
    with np.load(io.BytesIO(samples_of(model))) as data:
        return convert_model(model, dict(data), equalization="cross_layer").model


# --- targets ------------------------------------------------------------------------------------


def _inspect() -> Iterator[Seed]:
    quantized = {**op_models("int8"), **op_models("int16"), "cnn_int8": converted()["model"]}
    quantized["verified"] = verified(converted()["model"])
    for model in (*float_models().values(), *op_models("float32").values(), *quantized.values()):
        for flags in (("--json",), ("--ops", "--tensors")):
            yield Seed("inspect", "inspect", ("m.tflite", *flags), {"m.tflite": model}, "m.tflite")


def _convert() -> Iterator[Seed]:
    for n, (name, model) in enumerate({**float_models(), **op_models("float32")}.items()):
        files = {"m.tflite": model, "d.npz": samples_of(model)}
        scheme = ("int8", "int8", "int16x8", "dynamic")[n % 4]
        argv = ("m.tflite", "--data=d.npz", f"--scheme={scheme}", "--output=o.tflite")
        floating = any(word in name for word in ("lstm", "while", "spectrum"))
        more = ("--allow_float=.*",) if n % 3 == 2 or floating else ()
        flags = [(*more, "--plan_out=p.json")]
        if name in ("cnn", "branches", "free_batch"):
            flags.append(("--batch=3",))
            if scheme != "dynamic":
                flags.append(("--input_type=uint8", "--input_range=0,3", "--output_type=float32"))
        for given in flags:
            out = ("o.tflite", "p.json") if "--plan_out=p.json" in given else ("o.tflite",)
            yield Seed("convert", "convert", (*argv, *given), files, "m.tflite", out)


def _evaluate() -> Iterator[Seed]:
    floats = {**op_models("float32"), "cnn": float_models()["cnn"]}
    for dtype in ("int8", "int16"):
        quantized = dict(op_models(dtype))
        if dtype == "int8":
            quantized |= {"cnn": converted()["model"], "equalized": equalized()}
            quantized["verified"] = verified(quantized["cnn"])
            floats |= dict.fromkeys(("equalized", "verified"), floats["cnn"])
        for name, model in quantized.items():
            if name not in floats:
                continue
            labelled = name in ("cnn", "equalized")
            data = samples_of(floats[name], labelled)
            files = {"f.tflite": floats[name], "q.tflite": model, "d.npz": data}
            argv = ("f.tflite", "q.tflite", "--data=d.npz", "--json=r.json")
            probes = "--probes=4" if labelled else "--probes=0"
            yield Seed("evaluate", "evaluate", (*argv, probes), files, "q.tflite", ("r.json",))
            alone = ("q.tflite", "--data=d.npz", "--json=r.json", "--probes=0")
            yield Seed("evaluate", "evaluate", alone, files, "q.tflite", ("r.json",))
            for subject in ("f.tflite", "d.npz"):
                yield Seed("evaluate", "evaluate", (*argv, probes), files, subject, ("r.json",))
    yield from _labelled_by_output()
    yield from _masked()


def _labelled_by_output() -> Iterator[Seed]:
    """Labels that say which output they belong to."""
    model = float_models()["branches"]
    with np.load(io.BytesIO(samples_of(model))) as data:
        arrays = dict(data)
    quantized = convert_model(model, arrays).model
    arrays |= {"y/y0": np.arange(SAMPLES) % 4, "y/y1": np.zeros((SAMPLES, 8), np.float32)}
    files = {"f.tflite": model, "q.tflite": quantized, "d.npz": npz(**arrays)}
    argv = ("f.tflite", "q.tflite", "--data=d.npz", "--json=r.json", "--probes=0")
    for more in ((), ("--task=y0:classification,y1:regression",)):
        yield Seed("evaluate", "evaluate", (*argv, *more), files, "d.npz", ("r.json",))


def _masked() -> Iterator[Seed]:
    """A segmentation, with a folder of images and their masks."""
    net = Net(7)
    model = net.bytes(net.conv(net.input(1, 9, 8, 3, name="x"), 4, size=1))
    quantized = convert_model(model, np.zeros((1, 9, 8, 3), np.float32)).model
    files = {"f.tflite": model, "q.tflite": quantized, **_images_and_masks()}
    argv = ("f.tflite", "q.tflite", "--data=p", "--json=r.json", "--probes=0")
    for subject in ("p/masks/a.png", "p/images/a.png", "q.tflite"):
        given = (*argv, "--task=segmentation")
        yield Seed("evaluate", "evaluate", given, files, subject, ("r.json",))


def _images_and_masks() -> dict[str, bytes]:
    classes = np.random.default_rng(0).integers(0, 4, (9, 8), np.uint8)
    masks = {f"p/masks/{n}.png": _png(classes) for n in "ab"}
    return {**masks, **{f"p/images/{n}.png": _image("PNG") for n in "ab"}}


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _plan() -> Iterator[Seed]:
    model = float_models()["cnn"]
    files = {"m.tflite": model, "d.npz": samples_of(model)}
    argv = ("m.tflite", "--data=d.npz", "--plan=p.json", "--output=o.tflite")
    plans = [json.loads(converted()["plan"])]
    with np.load(io.BytesIO(files["d.npz"])) as data:
        arrays = dict(data)
    for options in ({"scheme": "int16x8"}, {"equalization": "cross_layer"}, {"scheme": "dynamic"}):
        plans.append(json.loads(convert_model(model, arrays, **options).plan.to_json()))
    for plan in plans:
        scheme = f"--scheme={plan['config']['scheme']}"
        body = {**files, "p.json": json.dumps(plan).encode()}
        yield Seed("plan", "convert", (*argv, scheme), body, "p.json", ("o.tflite",))
    for plan in plans:
        scheme = f"--scheme={plan['config']['scheme']}"
        given = with_integers(plan)
        body = {**files, "p.json": given.to_json().encode()}
        yield Seed("plan", "convert", (*argv, scheme), body, "p.json", ("o.tflite",))
        pair = saved(given)
        (beside,) = (name for name in pair if name != "p.json")
        for subject, digest in (("p.json", ""), (beside, "p.json"), (beside, "p.json")):
            body = {**files, **pair}
            outputs = ("o.tflite",)
            yield Seed("plan", "convert", (*argv, scheme), body, subject, outputs, digest)


def with_integers(body: dict[str, Any]) -> Plan:
    """A plan of the first model with biases and weights of its own."""
    plan = Plan.from_json(json.dumps(body))
    prepared = prepare(float_models()["cnn"], integer=True)
    graph = with_changes(prepared, plan).model.main
    weights, biases = {}, {}
    for op in graph.ops:
        row, entry = spec(op.name), plan.ops[op.key]
        if row is None or row.kind is not Kind.WEIGHTED:
            continue
        for given, i in ((weights, row.weights), (biases, row.bias)):
            if i in entry.edges and entry.edges[i].is_integer:
                given[op.key] = quantize(op.input(i).values(), entry.edges[i], narrow=True)
    return dataclasses.replace(plan, weights=weights, biases=biases)


def saved(plan: Plan) -> dict[str, bytes]:
    """The files that a plan is written to: `p.json`, and what is beside it."""
    with tempfile.TemporaryDirectory() as name:
        plan.save(os.path.join(name, "p.json"))
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def _statistics() -> Iterator[Seed]:
    model = float_models()["cnn"]
    files = {"m.tflite": model, "s.npz": converted()["statistics"], "d.npz": samples_of(model)}
    argv = ("m.tflite", "--statistics=s.npz", "--output=o.tflite")
    for more in ((), ("--calibration=entropy",), ("--calibration=mean_std",), ("--data=d.npz",)):
        yield Seed("statistics", "convert", (*argv, *more), files, "s.npz", ("o.tflite",))


def _image(form: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 8, 3), np.uint8)
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def _data() -> Iterator[Seed]:
    x = np.random.default_rng(0).normal(0, 1, (SAMPLES, 8, 8, 2)).astype(np.float32)
    y = np.arange(SAMPLES) % 3
    stream = io.BytesIO()
    np.save(stream, x)
    arrays = {"d.npz": npz(x0=x, y=y), "d.npy": stream.getvalue()}
    records = b"".join(record(example(x0=x[i], y=y[i])) for i in range(3))
    photos = b"".join(record(example(image=_image("PNG"), y=i)) for i in range(3))
    forms = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "gif": "GIF", "webp": "WEBP"}
    for name, body in {**arrays, "d.tfrecord": records}.items():
        yield Seed("data", "read", (name, "8", "8", "2"), {name: body}, name)
        if name == "d.npy":
            continue
        model = {"m.tflite": float_models()["cnn"], name: body}
        argv = ("m.tflite", f"--data={name}", "--output=o.tflite")
        yield Seed("data", "convert", argv, model, name, ("o.tflite",))
    yield Seed("data", "read", ("p.tfrecord", "8", "8", "3"), {"p.tfrecord": photos}, "p.tfrecord")
    for suffix, form in forms.items():
        name = f"a.{suffix}"
        files = {f"p/{name}": _image(form), "p/b.png": _image("PNG")}
        yield Seed("data", "read", ("p", "8", "8", "3"), files, f"p/{name}")
    table = {"d.csv": b"path,label\na.png,cat\nb.png,dog\n", "a.png": _image("PNG")}
    yield Seed(
        "data", "read", ("d.csv", "8", "8", "3"), {**table, "b.png": table["a.png"]}, "d.csv"
    )
    masked = _images_and_masks()
    yield Seed("data", "read", ("p", "9", "8", "3"), masked, "p/masks/a.png")
    table = {**masked, "d.csv": b"path,mask\np/images/a.png,p/masks/a.png\n"}
    for subject in ("d.csv", "p/masks/a.png"):
        yield Seed("data", "read", ("d.csv", "9", "8", "3"), table, subject)


def _archive() -> Iterator[Seed]:
    """What is asked of a Keras file before TensorFlow is: nothing here can be loaded."""
    import h5py

    layer = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 3}}
    config = json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}}).encode()
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = config
        file.create_dataset("model_weights/dense/kernel", data=np.ones((4, 3), np.float32))
    weights = stream.getvalue()
    yield Seed("archive", "archive", ("m.h5",), {"m.h5": weights}, "m.h5")
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", how) as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", weights)
        files = {"m.keras": stream.getvalue()}
        yield Seed("archive", "archive", ("m.keras",), files, "m.keras")


_MAKERS = types.MappingProxyType(
    {
        "inspect": _inspect,
        "convert": _convert,
        "evaluate": _evaluate,
        "plan": _plan,
        "statistics": _statistics,
        "data": _data,
        "archive": _archive,
    }
)
TARGETS = tuple(_MAKERS)


@functools.cache
def seeds(target: str) -> tuple[Seed, ...]:
    """All of one target, always in the same order."""
    with contextlib.redirect_stderr(io.StringIO()):
        return tuple(_MAKERS[target]())
