"""A `.tflite` file as the benchmarks see it: its dtypes, its grids, and its outputs as reals.

Reads the schema and runs the LiteRT interpreter directly, not through tfq: the judge of all three
converters must not be one of them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

_T = schema.TensorType
FLOATS = {_T.FLOAT16, _T.FLOAT32, _T.FLOAT64, _T.BFLOAT16}
_BOUNDARY = {schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE}
_OP_NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Attributes:
    float_ops: how many ops of each name read or write a float tensor, without QUANTIZE and
      DEQUANTIZE, which only mark where a float island or a float input begins.
    float_tensors: how many tensors of all subgraphs are float.
    """

    float_ops: Mapping[str, int]
    float_tensors: int

    @property
    def fully_integer(self) -> bool:
        """Every tensor of every subgraph is of an integer type or bool."""
        return self.float_tensors == 0

    @property
    def integer_inside(self) -> bool:
        """No op computes in float; the model's own inputs and outputs may be float."""
        return not self.float_ops


def kinds(path: pathlib.Path) -> Kinds:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    float_ops: collections.Counter[str] = collections.Counter()
    tensors = 0
    for graph in model.subgraphs:
        is_float = [t.type in FLOATS for t in graph.tensors]
        tensors += sum(is_float)
        for op in graph.operators or []:
            opcode = model.operatorCodes[op.opcodeIndex]
            code = max(opcode.builtinCode, opcode.deprecatedBuiltinCode)
            ends = [i for ends in (op.inputs, op.outputs) if ends is not None for i in ends]
            if code not in _BOUNDARY and any(i >= 0 and is_float[i] for i in ends):
                float_ops[_OP_NAMES[code]] += 1
    return Kinds(dict(float_ops), tensors)


def weight_zeros(path: pathlib.Path) -> list[tuple[str, int, int]]:
    """The op, elements and zeros of every constant int8 kernel, in the file's order."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    found = []
    for graph in model.subgraphs:
        for op in graph.operators or []:
            opcode = model.operatorCodes[op.opcodeIndex]
            name = _OP_NAMES[max(opcode.builtinCode, opcode.deprecatedBuiltinCode)]
            if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                continue
            kernel = graph.tensors[op.inputs[1]]
            data = model.buffers[kernel.buffer].data
            if kernel.type == _T.INT8 and data is not None:
                values = np.asarray(data, np.uint8)
                found.append((name, int(values.size), int((values == 0).sum())))
    return found


@dataclasses.dataclass(frozen=True)
class Grid:
    """real = (q - zero_point) * scale for q in [low, high]."""

    scale: float
    zero_point: int
    low: int
    high: int

    def quantize(self, x: np.ndarray) -> np.ndarray:
        q = np.rint(x / np.float32(self.scale)) + self.zero_point
        return np.clip(q, self.low, self.high).astype(np.int64)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        return (q.astype(np.int64) - self.zero_point).astype(np.float32) * np.float32(self.scale)

    def snap(self, x: np.ndarray) -> np.ndarray:
        """The real values of the nearest points of the grid."""
        return self.dequantize(self.quantize(x))


class LiteRtModel:
    """One allocated model with float or integer inputs and outputs, seen through its signature.

    Args:
      path: the file.
      threads: CPU threads of the interpreter.

    Attributes:
      input_grids, output_grids: for each signature name the integer grid, or None where values
        pass as they are (no quantization anywhere, or int32 and bool). A float input or output that
        a QUANTIZE or DEQUANTIZE op turns into an integer has that integer's grid.
    """

    def __init__(self, path: pathlib.Path, threads: int = 1):
        self.size = path.stat().st_size
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        signatures = list(self._interpreter.get_signature_list())
        runner = self._interpreter.get_signature_runner(signatures[0])
        self._inputs = runner.get_input_details()
        self._outputs = runner.get_output_details()
        graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0)).subgraphs[0]
        after = {op.inputs[0]: op.outputs[0] for op in graph.operators if len(op.inputs) == 1}
        before = {op.outputs[0]: op.inputs[0] for op in graph.operators if len(op.inputs) == 1}
        find = functools.partial(self._grid, graph)
        self.input_grids = {k: find(d["index"], after) for k, d in self._inputs.items()}
        self.output_grids = {k: find(d["index"], before) for k, d in self._outputs.items()}

    @staticmethod
    def _grid(graph: schema.SubGraphT, index: int, step: Mapping[int, int]) -> Grid | None:
        tensor = graph.tensors[index]
        if tensor.type in FLOATS and index in step:
            tensor = graph.tensors[step[index]]
        limits = {_T.INT8: np.int8, _T.UINT8: np.uint8, _T.INT16: np.int16}.get(tensor.type)
        q = tensor.quantization
        if limits is None or q is None or q.scale is None or len(q.scale) != 1:
            return None
        info = np.iinfo(limits)
        return Grid(float(q.scale[0]), int(q.zeroPoint[0]), int(info.min), int(info.max))

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs by signature name (int32 as they are) to outputs as reals."""
        for name, details in self._inputs.items():
            value, grid = inputs[name], self.input_grids[name]
            if grid is not None and details["dtype"] is not np.float32:
                value = grid.quantize(value)
            self._interpreter.set_tensor(details["index"], value.astype(details["dtype"]))
        self._interpreter.invoke()
        outputs = {}
        for name, details in self._outputs.items():
            value, grid = self._interpreter.get_tensor(details["index"]), self.output_grids[name]
            if grid is not None and details["dtype"] is not np.float32:
                value = grid.dequantize(value)
            outputs[name] = value
        return outputs

    def invoke(self) -> None:
        """Runs on whatever the inputs hold; what latency is measured on."""
        self._interpreter.invoke()
