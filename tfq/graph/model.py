"""A `.tflite` file as Python objects that can be rewired.

The flatbuffer's own object API refers to everything by index, which makes every rewrite an exercise
in renumbering. Here operators hold their tensors directly; indices and shared buffers are worked
out once, on writing. Constants are numpy arrays that view the file's memory until they are
replaced, so that loading a model copies nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.errors import ModelError
from tfq.graph.effects import has_side_effects


def enum_names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if not k.startswith("_")}


OP_NAMES: dict[int, str] = enum_names(schema.BuiltinOperator)
OP_CODES: dict[str, int] = {name: code for code, name in OP_NAMES.items()}
DTYPE_NAMES: dict[int, str] = {v: k.lower() for v, k in enum_names(schema.TensorType).items()}
DTYPE_CODES: dict[str, int] = {name: code for code, name in DTYPE_NAMES.items()}


# Types whose constants are packed below a byte keep one int8 per value in memory; `to_bytes` packs.
PACKED_BITS = {"int4": 4, "int2": 2, "uint4": 4}

_NUMPY = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype(np.float64),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
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


class Step(NamedTuple):
    """Where a tensor of an unrolled loop comes from.

    Attributes:
      tensor: which tensor of the loop's body it is; the same in all steps of one loop.
      number: of the step.
    """

    tensor: str
    number: int


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
      has_rank: False where the file knows no shape at all.
      step: its place in an unrolled loop, or None. Files do not hold it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None
    quant: Quant | None = None
    is_variable: bool = False
    signature: tuple[int, ...] | None = None
    has_rank: bool = True
    step: Step | None = None

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
        return self.dtype.startswith(("float", "bfloat"))

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

    @property
    def key(self) -> str:
        """What plans call the op: its first output's name, else its label and its inputs' names."""
        if self.outputs:
            return self.outputs[0].name
        return f"{self.label}({', '.join(t.name for t in self.inputs if t is not None)})"

    def input(self, i: int) -> Tensor:
        """Input `i`, which must be present."""
        tensor = self.inputs[i] if i < len(self.inputs) else None
        if tensor is None:
            raise ModelError(f"{self.label} at {self.key!r} lacks its input {i}.")
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
            if has_side_effects(op) or any(t in live for t in op.outputs):
                kept.append(op)
                live.update(t for t in op.inputs if t is not None)
        self.ops = kept[::-1]


@dataclasses.dataclass(eq=False)
class Signature:
    """A named entry point: argument names to tensors of one graph."""

    key: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    graph: int = 0


@dataclasses.dataclass(eq=False)
class Model:
    """A whole file: graphs (the first is the main one), signatures, metadata, attached files."""

    graphs: list[Graph]
    signatures: list[Signature] = dataclasses.field(default_factory=list)
    metadata: dict[str, bytes] = dataclasses.field(default_factory=dict)
    description: str = ""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)  # Zipped behind it.

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
        from tfq.graph import serialize

        try:
            return serialize.read(data)
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
        from tfq.graph import serialize

        return serialize.write(self)

    def copy(self) -> Model:
        """A copy that can be rewired freely; constants are shared, never written to."""
        return Model.from_bytes(self.to_bytes())


@functools.cache
def options_type(name: str) -> Any:
    """The schema's options class by name, e.g. ``options_type("Pool2DOptions")()``."""
    return getattr(schema, name + "T")
