"""A `.tflite` file as Python objects that can be rewired, and back to bytes.

The flatbuffer's own object API refers to everything by index, which makes every rewrite an exercise
in renumbering. Here operators hold their tensors directly; indices and shared buffers are worked
out once, on writing. Constants are numpy arrays that view the file's memory until they are
replaced, so that loading a model copies nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import flatbuffers
import ml_dtypes
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.errors import ModelError


def _names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if not k.startswith("_")}


OP_NAMES: dict[int, str] = _names(schema.BuiltinOperator)
OP_CODES: dict[str, int] = {name: code for code, name in OP_NAMES.items()}
DTYPE_NAMES: dict[int, str] = {v: k.lower() for v, k in _names(schema.TensorType).items()}
DTYPE_CODES: dict[str, int] = {name: code for code, name in DTYPE_NAMES.items()}

_OPTIONS_TYPES = _names(schema.BuiltinOptions)
_OPTIONS_CODES = {name: code for code, name in _OPTIONS_TYPES.items()}
_OPTIONS2_CODES = {name: code for code, name in _names(schema.BuiltinOptions2).items()}

# Types whose constants are packed below a byte keep one int8 per value in memory; `to_bytes` packs.
PACKED_BITS = {"int4": 4, "int2": 2, "uint4": 4}

_NUMPY = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype(np.float64),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
    "int4": np.dtype(np.int8),
    "int2": np.dtype(np.int8),
    "uint4": np.dtype(np.uint8),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
}


def numpy_dtype(dtype: str) -> np.dtype:
    """The numpy dtype that holds values of a tensor type (int4 and int2 are held as int8).

    Raises:
      ModelError: for types without numeric values (string, resource, variant).
    """
    try:
        return _NUMPY[dtype]
    except KeyError:
        raise ModelError(f"Tensors of type {dtype} hold no numbers.") from None


@dataclasses.dataclass(frozen=True, eq=False)
class Quant:
    """An affine grid, real = (q - zero_point) * scale, per tensor or along one axis.

    Attributes:
      scale: float32, shape [1] per tensor or [channels] along `axis`.
      zero_point: int64, the same shape.
      axis: the quantized dimension; meaningless when there is one scale.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0

    @staticmethod
    def per_tensor(scale: float, zero_point: int = 0) -> Quant:
        return Quant(np.array([scale], np.float32), np.array([zero_point], np.int64))

    @property
    def per_axis(self) -> bool:
        return self.scale.size > 1

    def same_grid(self, other: Quant | None) -> bool:
        """Whether both put every real value on the same integer."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.axis == other.axis or not self.per_axis)
        )


@dataclasses.dataclass(eq=False)
class Tensor:
    """One tensor. Compared and hashed by identity.

    Attributes:
      name: unique within its graph in files that tfq writes.
      shape: dimensions; a dynamic one is -1 only in `signature`.
      dtype: a TensorType name in lower case ("float32", "int8", ...).
      data: the constant's values with shape `shape`, or None for a computed tensor.
      quant: its grid, or None.
      is_variable: state that survives between invocations.
      signature: the shape with -1 for dynamic dimensions, or None when all are static.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None
    quant: Quant | None = None
    is_variable: bool = False
    signature: tuple[int, ...] | None = None
    has_rank: bool = True

    def __repr__(self) -> str:
        return f"<{self.name}: {self.dtype}{list(self.shape)}{' const' if self.is_const else ''}>"

    @property
    def is_const(self) -> bool:
        return self.data is not None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_float(self) -> bool:
        return self.dtype in ("float32", "float16", "bfloat16", "float64")

    def values(self) -> np.ndarray:
        """The constant's values.

        Raises:
          ModelError: the tensor is computed, not constant.
        """
        if self.data is None:
            raise ModelError(f"Tensor {self.name!r} is not a constant.")
        return self.data


@dataclasses.dataclass(eq=False)
class Op:
    """One operator. `inputs` may hold None where an optional input is left out.

    Attributes:
      name: the BuiltinOperator name ("CONV_2D"), or "CUSTOM".
      options: the builtin options object of the schema (e.g. `Conv2DOptionsT`), or None.
      version: the op version written to the file.
      custom_code: the name of a custom op ("FlexErf"), else "".
      intermediates: internal tensors of fused recurrent ops.
    """

    name: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Any = None
    version: int = 1
    custom_code: str = ""
    custom_options: bytes | None = None
    intermediates: list[Tensor] = dataclasses.field(default_factory=list)

    @property
    def label(self) -> str:
        """The name a person reads: the builtin's, or the custom op's own."""
        return f"CUSTOM:{self.custom_code}" if self.name == "CUSTOM" else self.name

    def input(self, i: int) -> Tensor:
        """Input `i`, which must be present."""
        tensor = self.inputs[i] if i < len(self.inputs) else None
        if tensor is None:
            raise ModelError(f"{self.label} at {self.outputs[0].name!r} lacks its input {i}.")
        return tensor

    def __repr__(self) -> str:
        return f"<{self.label} {self.inputs} -> {self.outputs}>"


@dataclasses.dataclass(eq=False)
class Graph:
    """One subgraph: ops in execution order, and its inputs and outputs."""

    name: str
    ops: list[Op]
    inputs: list[Tensor]
    outputs: list[Tensor]

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor once: inputs first, then in order of use, then unused outputs."""
        seen: set[Tensor] = set()
        groups: list[Iterable[Tensor | None]] = [self.inputs]
        for op in self.ops:
            groups += [op.inputs, op.outputs, op.intermediates]
        groups.append(self.outputs)
        for group in groups:
            for tensor in group:
                if tensor is not None and tensor not in seen:
                    seen.add(tensor)
                    yield tensor

    def producers(self) -> dict[Tensor, Op]:
        """The op that computes each computed tensor."""
        return {t: op for op in self.ops for t in op.outputs}

    def consumers(self) -> dict[Tensor, list[tuple[Op, int]]]:
        """For each tensor, the (op, input index) pairs that read it."""
        uses: dict[Tensor, list[tuple[Op, int]]] = {}
        for op in self.ops:
            for i, tensor in enumerate(op.inputs):
                if tensor is not None:
                    uses.setdefault(tensor, []).append((op, i))
        return uses

    def replace_uses(self, old: Tensor, new: Tensor) -> None:
        """Makes every reader of `old`, and the graph's outputs, read `new`."""
        for op in self.ops:
            op.inputs = [new if t is old else t for t in op.inputs]
        self.outputs = [new if t is old else t for t in self.outputs]

    def prune(self) -> None:
        """Drops ops none of whose outputs are read. Ops with side effects stay."""
        live = set(self.outputs)
        kept: list[Op] = []
        for op in reversed(self.ops):
            stateful = op.name in _SIDE_EFFECTS or any(
                t is not None and t.is_variable for t in op.inputs
            )
            if stateful or any(t in live for t in op.outputs):
                kept.append(op)
                live.update(t for t in op.inputs if t is not None)
        self.ops = kept[::-1]


_SIDE_EFFECTS = {"ASSIGN_VARIABLE", "CALL_ONCE", "CUSTOM", "CALL", "VAR_HANDLE", "WHILE", "IF"}


@dataclasses.dataclass(eq=False)
class Signature:
    """A named entry point: argument names to tensors of one graph."""

    key: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    graph: int = 0


@dataclasses.dataclass(eq=False)
class Model:
    """A whole file: graphs (the first is the main one), signatures, metadata."""

    graphs: list[Graph]
    signatures: list[Signature] = dataclasses.field(default_factory=list)
    metadata: dict[str, bytes] = dataclasses.field(default_factory=dict)
    description: str = ""

    @property
    def main(self) -> Graph:
        return self.graphs[0]

    @staticmethod
    def from_bytes(data: bytes, *, where: str = "the model") -> Model:
        """Reads a `.tflite` file.

        Args:
          data: the file's bytes.
          where: what to call the file in an error.

        Raises:
          ModelError: the bytes are not a well-formed model.
        """
        try:
            return _read(data)
        except ModelError as e:
            raise ModelError(f"Cannot read {where}: {e}") from None
        except MemoryError:
            raise
        except Exception as e:  # Damaged offsets surface as almost any exception.
            kind = "" if isinstance(e, struct.error) else f"{type(e).__name__}: "
            raise ModelError(
                f"Cannot read {where}: it is damaged, or not a .tflite file "
                f"({kind}{e}). Export or copy it again."
            ) from None

    def to_bytes(self) -> bytes:
        """Writes the file. The same model gives the same bytes; equal constants share a buffer."""
        return _Writer(self).write()

    def copy(self) -> Model:
        """A copy that can be rewired freely; constants are shared, never written to."""
        return Model.from_bytes(self.to_bytes())


# --- reading ------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else (value or "")


def _unpack_bits(raw: np.ndarray, bits: int, size: int, signed: bool) -> np.ndarray:
    """Values packed `bits` wide, the lowest bits first, as one byte each."""
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    values = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:size]
    if not signed:
        return values.astype(np.uint8)
    half = 1 << (bits - 1)
    return ((values.astype(np.int16) ^ half) - half).astype(np.int8)


def _pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    per_byte = 8 // bits
    flat = values.reshape(-1).astype(np.uint8) & ((1 << bits) - 1)
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[: flat.size] = flat
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    lanes = padded.reshape(-1, per_byte) << shifts
    return np.asarray(np.bitwise_or.reduce(lanes, axis=1)).astype(np.uint8)


def _read(data: bytes) -> Model:
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise ModelError("it is not a .tflite file (no TFL3 identifier). Export or copy it again.")
    flat = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    buffers = flat.buffers or []

    def content(index: int) -> np.ndarray | None:
        if not 0 <= index < len(buffers):
            raise ModelError(f"buffer {index} of {len(buffers)} does not exist; it is damaged.")
        buffer = buffers[index]
        if buffer.offset and buffer.offset > 1:
            end = buffer.offset + buffer.size
            if end > len(data):
                raise ModelError(f"buffer {index} ends after the file; it is truncated.")
            return np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        if buffer.data is None or len(buffer.data) == 0:
            return None
        return np.asarray(buffer.data, np.uint8)

    graphs: list[Graph] = []
    tables: list[list[Tensor]] = []
    for i, sub in enumerate(flat.subgraphs or []):
        table = [_read_tensor(t, content) for t in (sub.tensors if sub.tensors is not None else [])]
        tables.append(table)
        ops = [_read_op(o, flat.operatorCodes, table) for o in (sub.operators or [])]
        graphs.append(
            Graph(
                _text(sub.name) or f"subgraph_{i}",
                ops,
                [_at(table, j) for j in _ints(sub.inputs)],
                [_at(table, j) for j in _ints(sub.outputs)],
            )
        )
    if not graphs or not graphs[0].outputs:
        raise ModelError("it has no graph with outputs; it is damaged or empty.")
    signatures = []
    for s in flat.signatureDefs or []:
        if not 0 <= s.subgraphIndex < len(tables):
            raise ModelError(f"signature {_text(s.signatureKey)!r} names no graph; it is damaged.")
        table = tables[s.subgraphIndex]
        signatures.append(
            Signature(
                _text(s.signatureKey),
                {_text(m.name): _at(table, m.tensorIndex) for m in (s.inputs or [])},
                {_text(m.name): _at(table, m.tensorIndex) for m in (s.outputs or [])},
                s.subgraphIndex,
            )
        )
    metadata = {}
    for m in flat.metadata or []:
        blob = content(m.buffer)
        metadata[_text(m.name)] = b"" if blob is None else blob.tobytes()
    return Model(graphs, signatures, metadata, _text(flat.description))


def _ints(values: Any) -> list[int]:
    return [] if values is None else [int(v) for v in values]


def _at(table: list[Tensor], index: int) -> Tensor:
    if not 0 <= index < len(table):
        raise ModelError(f"tensor {index} of {len(table)} does not exist; it is damaged.")
    return table[index]


def _read_tensor(t: Any, content: Any) -> Tensor:
    if t.type not in DTYPE_NAMES:
        raise ModelError(f"tensor {_text(t.name)!r} has the unknown type {t.type}.")
    dtype = DTYPE_NAMES[t.type]
    shape = tuple(_ints(t.shape))
    if any(d < 0 for d in shape):
        # Some writers put the dynamic -1 into the shape itself.
        shape = tuple(max(d, 1) for d in shape)
    signature = tuple(_ints(t.shapeSignature))
    raw = content(t.buffer) if t.buffer else None
    name = _text(t.name)
    if t.sparsity is not None:
        raise ModelError(f"tensor {name!r} is stored sparse, which tfq does not read.")
    data = None
    if raw is not None and dtype != "string":
        size = int(np.prod(shape, dtype=np.int64))
        if dtype in PACKED_BITS:
            bits = PACKED_BITS[dtype]
            if raw.size < -(-size * bits // 8):
                raise ModelError(f"tensor {name!r} has fewer bytes than its shape needs.")
            data = _unpack_bits(raw, bits, size, dtype.startswith("int")).reshape(shape)
        else:
            np_dtype = numpy_dtype(dtype)
            if raw.size != size * np_dtype.itemsize:
                raise ModelError(
                    f"tensor {name!r} of shape {list(shape)} needs {size * np_dtype.itemsize} "
                    f"bytes but holds {raw.size}."
                )
            data = raw.view(np_dtype).reshape(shape)
    elif raw is not None:
        data = raw
    quant = None
    q = t.quantization
    if q is not None and q.scale is not None and len(q.scale):
        scale = np.asarray(q.scale, np.float32)
        zero = np.asarray(q.zeroPoint if q.zeroPoint is not None else [0], np.int64)
        zero = np.broadcast_to(zero, scale.shape) if zero.size == 1 else zero
        if zero.shape != scale.shape or not 0 <= q.quantizedDimension <= max(len(shape), 1):
            raise ModelError(f"tensor {name!r} has scales and zero points that do not match.")
        quant = Quant(scale, zero, int(q.quantizedDimension))
    dynamic = signature if signature and -1 in signature else None
    return Tensor(name, shape, dtype, data, quant, bool(t.isVariable), dynamic, bool(t.hasRank))


def _read_op(o: Any, codes: Any, table: list[Tensor]) -> Op:
    if not 0 <= o.opcodeIndex < len(codes):
        raise ModelError(f"operator code {o.opcodeIndex} does not exist; it is damaged.")
    code = codes[o.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    if builtin not in OP_NAMES:
        raise ModelError(f"operator {builtin} is unknown to this LiteRT; upgrade ai-edge-litert.")
    options = o.builtinOptions if o.builtinOptions is not None else o.builtinOptions2
    custom = o.customOptions
    return Op(
        OP_NAMES[builtin],
        [None if i < 0 else _at(table, i) for i in _ints(o.inputs)],
        [_at(table, i) for i in _ints(o.outputs)],
        options,
        int(code.version),
        _text(code.customCode),
        None if custom is None or len(custom) == 0 else bytes(np.asarray(custom, np.uint8)),
        [_at(table, i) for i in _ints(o.intermediates)],
    )


# --- writing ------------------------------------------------------------------------------------


class _AlignedBuilder(flatbuffers.Builder):
    """Puts byte vectors on 16-byte boundaries, as the schema's `force_align` asks for buffers.

    The Python builder ignores that attribute; kernels then read int32 biases unaligned.
    """

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


class _Writer:
    def __init__(self, model: Model):
        self.model = model
        self.buffers = [schema.BufferT()]
        self.by_hash: dict[bytes, int] = {}
        self.codes: dict[tuple[int, int, str], int] = {}

    def write(self) -> bytes:
        flat = schema.ModelT()
        flat.version = 3
        flat.description = self.model.description or "tfq"
        index: list[dict[Tensor, int]] = []
        flat.subgraphs = []
        for i, graph in enumerate(self.model.graphs):
            tensors = list(graph.tensors())
            for s in self.model.signatures:
                if s.graph == i:
                    known = set(tensors)
                    for t in [*s.inputs.values(), *s.outputs.values()]:
                        if t not in known:
                            raise ModelError(
                                f"Signature {s.key!r} names a tensor not in its graph."
                            )
            table = {t: n for n, t in enumerate(tensors)}
            index.append(table)
            flat.subgraphs.append(self._graph(graph, tensors, table))
        flat.signatureDefs = [self._signature(s, index[s.graph]) for s in self.model.signatures]
        flat.metadata = []
        for name, blob in self.model.metadata.items():
            entry = schema.MetadataT()
            entry.name = name
            entry.buffer = self._buffer(np.frombuffer(blob, np.uint8))
            flat.metadata.append(entry)
        flat.buffers = self.buffers
        flat.operatorCodes = []
        for builtin, version, custom in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode = builtin
            code.deprecatedBuiltinCode = min(builtin, 127)
            code.version = version
            code.customCode = custom or None
            flat.operatorCodes.append(code)
        size = sum(b.data.size for b in self.buffers if b.data is not None)
        builder = _AlignedBuilder(size + (1 << 16))
        builder.Finish(flat.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, raw: np.ndarray) -> int:
        flat = np.ascontiguousarray(raw).reshape(-1).view(np.uint8)
        key = hashlib.blake2b(flat.data, digest_size=20).digest()
        if key not in self.by_hash:
            buffer = schema.BufferT()
            buffer.data = flat
            self.buffers.append(buffer)
            self.by_hash[key] = len(self.buffers) - 1
        return self.by_hash[key]

    def _graph(self, graph: Graph, tensors: list[Tensor], table: dict[Tensor, int]) -> Any:
        sub = schema.SubGraphT()
        sub.name = graph.name
        sub.inputs = [table[t] for t in graph.inputs]
        sub.outputs = [table[t] for t in graph.outputs]
        sub.tensors = [self._tensor(t) for t in tensors]
        sub.operators = [self._op(op, table) for op in graph.ops]
        return sub

    def _tensor(self, tensor: Tensor) -> Any:
        t = schema.TensorT()
        t.name = tensor.name
        t.shape = list(tensor.shape)
        t.type = DTYPE_CODES[tensor.dtype]
        t.hasRank = tensor.has_rank
        t.isVariable = tensor.is_variable
        if tensor.signature is not None:
            t.shapeSignature = list(tensor.signature)
        t.buffer = 0
        if tensor.data is not None:
            data = tensor.data
            if tensor.dtype in PACKED_BITS:
                data = _pack_bits(data, PACKED_BITS[tensor.dtype])
            t.buffer = self._buffer(data) if data.size else 0
        if tensor.quant is not None:
            q = schema.QuantizationParametersT()
            q.scale = np.asarray(tensor.quant.scale, np.float32)
            q.zeroPoint = np.asarray(tensor.quant.zero_point, np.int64)
            q.quantizedDimension = tensor.quant.axis
            t.quantization = q
        return t

    def _op(self, op: Op, table: dict[Tensor, int]) -> Any:
        o = schema.OperatorT()
        key = (OP_CODES[op.name], op.version, op.custom_code)
        o.opcodeIndex = self.codes.setdefault(key, len(self.codes))
        o.inputs = [-1 if t is None else table[t] for t in op.inputs]
        o.outputs = [table[t] for t in op.outputs]
        o.intermediates = [table[t] for t in op.intermediates] or None
        if op.options is not None:
            name = type(op.options).__name__.removesuffix("T")
            if name in _OPTIONS2_CODES:
                o.builtinOptions2Type, o.builtinOptions2 = _OPTIONS2_CODES[name], op.options
            else:
                o.builtinOptionsType, o.builtinOptions = _OPTIONS_CODES[name], op.options
        if op.custom_options is not None:
            o.customOptions = np.frombuffer(op.custom_options, np.uint8)
        return o

    def _signature(self, s: Signature, table: dict[Tensor, int]) -> Any:
        out = schema.SignatureDefT()
        out.signatureKey = s.key
        out.subgraphIndex = s.graph
        out.inputs = [self._argument(n, table[t]) for n, t in s.inputs.items()]
        out.outputs = [self._argument(n, table[t]) for n, t in s.outputs.items()]
        return out

    @staticmethod
    def _argument(name: str, index: int) -> Any:
        m = schema.TensorMapT()
        m.name, m.tensorIndex = name, index
        return m


@functools.cache
def options_type(name: str) -> Any:
    """The schema's options class by name, e.g. ``options_type("Pool2DOptions")()``."""
    return getattr(schema, name + "T")
