"""The objects of `tfq.graph.model` from the bytes of a `.tflite` file, and back.

`Model.from_bytes` and `Model.to_bytes` are the way in; this module knows the flatbuffer.
"""

from __future__ import annotations

import hashlib
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.errors import ModelError
from tfq.graph.attached import attach, read_attached
from tfq.graph.model import (
    DTYPE_CODES,
    DTYPE_NAMES,
    OP_CODES,
    OP_NAMES,
    PACKED_BITS,
    Graph,
    Model,
    Op,
    Quant,
    Signature,
    Tensor,
    enum_names,
    numpy_dtype,
)
from tfq.graph.options import checked_options

_OPTIONS_CODES = {name: code for code, name in enum_names(schema.BuiltinOptions).items()}
_OPTIONS2_CODES = {name: code for code, name in enum_names(schema.BuiltinOptions2).items()}


# --- reading ------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else (value or "")


def _name(value: Any, what: str) -> str:
    """A name by which LiteRT can be asked: text that a C string can hold."""
    raw = value if isinstance(value, bytes) else (value or "").encode("utf-8", "surrogateescape")
    try:
        if b"\0" not in raw:
            return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise ModelError(f"the name {raw!r} of {what} is not UTF-8, or holds a NUL; it is damaged.")


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


def read(data: bytes) -> Model:
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
                _name(s.signatureKey, "a signature"),
                {_name(m.name, "an input"): _at(table, m.tensorIndex) for m in (s.inputs or [])},
                {_name(m.name, "an output"): _at(table, m.tensorIndex) for m in (s.outputs or [])},
                s.subgraphIndex,
            )
        )
    metadata = {}
    for m in flat.metadata or []:
        blob = content(m.buffer)
        metadata[_text(m.name)] = b"" if blob is None else blob.tobytes()
    return Model(graphs, signatures, metadata, _text(flat.description), read_attached(data))


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
    name = _name(t.name, "a tensor")
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
    quant = _read_quant(t.quantization, name, shape)
    dynamic = signature if signature and -1 in signature else None
    return Tensor(name, shape, dtype, data, quant, bool(t.isVariable), dynamic, bool(t.hasRank))


def _read_quant(q: Any, name: str, shape: tuple[int, ...]) -> Quant | None:
    """The grid of a tensor; None without scales."""
    if q is None or q.scale is None or not len(q.scale):
        return None
    scale = np.asarray(q.scale, np.float32)
    zero = np.asarray(q.zeroPoint if q.zeroPoint is not None else [0], np.int64)
    zero = np.broadcast_to(zero, scale.shape) if zero.size == 1 else zero
    axis = int(q.quantizedDimension)
    if zero.shape != scale.shape or not 0 <= axis <= max(len(shape), 1):
        raise ModelError(f"tensor {name!r} has scales and zero points that do not match.")
    if scale.size > 1 and scale.size != (shape[axis] if axis < len(shape) else 0):
        raise ModelError(
            f"tensor {name!r} of shape {list(shape)} has {scale.size} scales along dimension "
            f"{axis}; it is damaged."
        )
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise ModelError(f"tensor {name!r} has a scale that is no positive number; it is damaged.")
    return Quant(scale, zero, axis)


def _read_op(o: Any, codes: Any, table: list[Tensor]) -> Op:
    if not 0 <= o.opcodeIndex < len(codes):
        raise ModelError(f"operator code {o.opcodeIndex} does not exist; it is damaged.")
    code = codes[o.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    if builtin not in OP_NAMES:
        raise ModelError(f"operator {builtin} is unknown to this LiteRT; upgrade ai-edge-litert.")
    options = o.builtinOptions if o.builtinOptions is not None else o.builtinOptions2
    options = checked_options(OP_NAMES[builtin], options)
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


def write(model: Model) -> bytes:
    """The file's bytes: the same for the same model; equal constants share a buffer."""
    return attach(_Writer(model).write(), model.files)
