"""Writes fused recurrent ops out as the basic ops of every step.

UNIDIRECTIONAL_SEQUENCE_LSTM, as tf_keras layers convert, with its gates i, f, g, o:

    z_t = x_t W + b + h_{t-1} U                 four gates in one product each
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) act(g)         clipped to +-cell_clip
    h_t = sigmoid(o) act(c_t)

with i = 1 - f where the input gate is left out, and UNIDIRECTIONAL_SEQUENCE_RNN:

    h_t = act(x_t W + b + h_{t-1} U)

x W + b is one FULLY_CONNECTED for all steps. The state starts at zero in every invocation, as it
does in the layer that the op came from; the fused op would carry it on until it is reset.

Cell clipping is left out where it cannot act: from c = 0, |c_t| <= t + 1 when act is tanh.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.graph.model import Graph, Model, Op, Step, Tensor, options_type
from tfq.unroll.loops import Unrolled
from tfq.unroll.tidy import reshape, reverse_of_concatenation
from tfq.unroll.trace import Names, UnrollError, int32

NAME = "unroll_lstm"

_ACT = schema.ActivationFunctionType
_ACTIVATION_OPS = {_ACT.TANH: "TANH", _ACT.RELU: "RELU", _ACT.RELU6: "RELU6"}
_FUSED = (
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "LSTM",
    "RNN",
    "SVDF",
)


def apply(model: Model, *, max_steps: int = 512, max_ops: int = 20000) -> Unrolled:
    """Unrolls every fused recurrent op of the main graph whose form is supported, in place.

    Args:
      model: a float model.
      max_steps: longer sequences stay.
      max_ops: ops that would make the graph larger than this stay.

    Returns:
      The names of the outputs of the rewritten ops, and the reasons for those that stay.
    """
    graph = model.main
    done: list[str] = []
    left: list[tuple[str, str]] = []
    single: list[str] = []
    names = Names(t.name for t in graph.tensors())
    for op in [op for op in graph.ops if op.name in _FUSED]:
        try:
            unroller = _Unroller(graph, op, names, max_steps)
            new = unroller.unroll()
            if len(graph.ops) + len(new) > max_ops:
                raise UnrollError(
                    f"unrolled it would make the model larger than {max_ops} ops; use a shorter "
                    f"sequence, or keep it float with --allow_float={op.name}"
                )
        except UnrollError as reason:
            left.append((op.outputs[0].name, str(reason)))
            continue
        at = graph.ops.index(op)
        graph.ops[at : at + 1] = new
        done.append(op.outputs[0].name)
        if unroller.steps == 1:
            single.append(op.outputs[0].name)
    if done:
        _take_single_steps(graph)
        reverse_of_concatenation(graph, names)
        graph.prune()
    return Unrolled(tuple(done), tuple(left), tuple(single))


@dataclasses.dataclass(frozen=True)
class _Weights:
    """The gates stacked: `kernel` [gates * n, features], `recurrent` [gates * n, n], `bias`."""

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    gates: int

    @property
    def units(self) -> int:
        return self.recurrent.shape[1]


def _constant(op: Op, i: int) -> np.ndarray:
    t = op.input(i)
    if t.data is None or t.dtype != "float32":
        raise UnrollError(f"its weights {t.name!r} are not float constants")
    return t.values()


def _has(op: Op, i: int) -> bool:
    return i < len(op.inputs) and op.inputs[i] is not None


def _lstm_weights(op: Op) -> _Weights:
    for inputs, what in (
        ((9, 10, 11), "peephole connections"),
        ((16, 17), "a projection layer"),
        ((20, 21, 22, 23), "layer normalization"),
    ):
        if any(_has(op, i) for i in inputs):
            raise UnrollError(f"it has {what}, which unrolling does not cover")
    if getattr(op.options, "diagonalRecurrentTensors", False):
        raise UnrollError("its recurrent weights are diagonal, which unrolling does not cover")
    gates = [i for i in range(4) if i or _has(op, 1)]
    return _Weights(
        np.concatenate([_constant(op, 1 + i) for i in gates]),
        np.concatenate([_constant(op, 5 + i) for i in gates]),
        np.concatenate([_constant(op, 12 + i) for i in gates]),
        len(gates),
    )


class _Unroller:
    def __init__(self, graph: Graph, op: Op, names: Names, max_steps: int):
        self._op = op
        self._names = names
        self._prefix = op.outputs[0].name
        self.ops: list[Op] = []
        if op.name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            self._weights = _lstm_weights(op)
            states: tuple[int, ...] = (18, 19)
        elif op.name == "UNIDIRECTIONAL_SEQUENCE_RNN":
            self._weights = _Weights(_constant(op, 1), _constant(op, 2), _constant(op, 3), 1)
            states = (4,)
        else:
            raise UnrollError(
                f"{op.name} is not unrolled; keep it float with --allow_float={op.name}, or build "
                "the model from Keras LSTM layers"
            )
        for i in states:
            if _has(op, i) and not op.input(i).is_variable:
                raise UnrollError("its initial state is computed, not zero")
        self._activation = op.options.fusedActivationFunction
        if self._activation not in (*_ACTIVATION_OPS, _ACT.NONE):
            raise UnrollError(f"its activation {self._activation} has no op of its own")
        x = op.input(0)
        if len(x.shape) != 3 or x.signature is not None or x.dtype != "float32":
            raise UnrollError("the shape of its input is not static")
        self._time = 0 if op.options.timeMajor else 1
        self.steps, self._batch = x.shape[self._time], x.shape[1 - self._time]
        if self.steps > max_steps:
            raise UnrollError(
                f"it runs for {self.steps} steps, too many to unroll; use a shorter sequence "
                f"(up to {max_steps} steps), or keep it float with --allow_float={op.name}"
            )
        self._source, self._reversed = self._input(graph)

    def _input(self, graph: Graph) -> tuple[Tensor, bool]:
        """The sequence, and whether to walk it backwards: a reversal in front is taken over."""
        x = self._op.input(0)
        maker = graph.producers().get(x)
        if maker is not None and maker.name == "REVERSE_V2":
            axes = maker.input(1).data
            if axes is not None and [int(a) % 3 for a in axes.reshape(-1)] == [self._time]:
                return maker.input(0), True
        return x, False

    # --- emitting --------------------------------------------------------------------------------

    def _emit(
        self,
        name: str,
        inputs: list[Tensor | None],
        shape: tuple[int, ...],
        label: str,
        step: int | None = None,
        **fields: Any,
    ) -> Tensor:
        return self._emit_many(name, inputs, [shape], label, step, **fields)[0]

    def _emit_many(
        self,
        name: str,
        inputs: list[Tensor | None],
        shapes: Sequence[tuple[int, ...]],
        label: str,
        step: int | None = None,
        **fields: Any,
    ) -> list[Tensor]:
        full = f"{self._prefix}/{label}" if step is None else f"{self._prefix}/step_{step}/{label}"
        options = _options(name)
        for key, value in fields.items():
            setattr(options, key, value)
        outputs = [
            Tensor(
                self._names.fresh(full),
                shape,
                "float32",
                step=None if step is None else Step(f"{self._prefix}: {label} {k}", step),
            )
            for k, shape in enumerate(shapes)
        ]
        self.ops.append(Op(name, inputs, outputs, options))
        return outputs

    def _constant(self, values: np.ndarray, label: str) -> Tensor:
        data = np.ascontiguousarray(values, np.float32)
        return Tensor(self._names.fresh(f"{self._prefix}/{label}"), data.shape, "float32", data)

    def _activated(self, x: Tensor, label: str, step: int) -> Tensor:
        if self._activation == _ACT.NONE:
            return x
        return self._emit(_ACTIVATION_OPS[self._activation], [x], x.shape, label, step)

    # --- the recurrence --------------------------------------------------------------------------

    def unroll(self) -> list[Op]:
        """The ops that compute the fused op's output."""
        w = self._weights
        recurrent = self._constant(w.recurrent, "recurrent")
        split_axis = int32(1, self._names.fresh(f"{self._prefix}/gate_axis"))
        one = self._constant(np.ones(()), "one") if w.gates == 3 else None
        steps = self._projected()
        hidden: list[Tensor] = []
        c: Tensor | None = None
        for t, z in enumerate(reversed(steps) if self._reversed else steps):
            if hidden:
                u = self._emit("FULLY_CONNECTED", [hidden[-1], recurrent, None], z.shape, "u", t)
                z = self._emit("ADD", [z, u], z.shape, "z", t)
            if w.gates == 1:
                hidden.append(self._activated(z, "h", t))
                continue
            shape = (self._batch, w.units)
            gates = self._emit_many(
                "SPLIT", [split_axis, z], [shape] * w.gates, "gates", t, numSplits=w.gates
            )
            f, g, o = (self._gate(gates[k - 3], k, t) for k in range(3))
            if one is None:
                i = self._emit("LOGISTIC", [gates[0]], shape, "i", t)
            else:
                i = self._emit("SUB", [one, f], shape, "i", t)
            new = self._emit("MUL", [i, g], shape, "i_g", t)
            if c is not None:
                kept = self._emit("MUL", [f, c], shape, "f_c", t)
                new = self._emit("ADD", [kept, new], shape, "c", t)
            c = self._clipped(new, t)
            squashed = self._activated(c, "act_c", t)
            hidden.append(self._emit("MUL", [o, squashed], shape, "h", t))
        self._gather(hidden)
        return self.ops

    def _gate(self, z: Tensor, k: int, t: int) -> Tensor:
        if k == 1:
            return self._activated(z, "g", t)
        return self._emit("LOGISTIC", [z], z.shape, "fgo"[k], t)

    def _clipped(self, c: Tensor, t: int) -> Tensor:
        limit = float(self._op.options.cellClip or 0)
        if limit <= 0 or (self._activation == _ACT.TANH and t + 1 <= limit):
            return c
        high = self._constant(np.array([limit]), "clip_high")
        low = self._constant(np.array([-limit]), "clip_low")
        c = self._emit("MINIMUM", [c, high], c.shape, "c_below", t)
        return self._emit("MAXIMUM", [c, low], c.shape, "c_clipped", t)

    def _projected(self) -> list[Tensor]:
        """x_t W + b for every step, each [batch, gates * units]."""
        w, x = self._weights, self._source
        features = x.shape[2]
        if self._time == 1 and self._batch > 1:
            order = int32([1, 0, 2], self._names.fresh(f"{self._prefix}/time_major"))
            x = self._emit(
                "TRANSPOSE", [x, order], (self.steps, self._batch, features), "x_time_major"
            )
        rows = Tensor(
            self._names.fresh(f"{self._prefix}/x_rows"),
            (self.steps * self._batch, features),
            "float32",
        )
        self.ops.append(reshape(x, rows, self._names))
        width = w.kernel.shape[0]
        kernel, bias = self._constant(w.kernel, "kernel"), self._constant(w.bias, "bias")
        product = self._emit(
            "FULLY_CONNECTED", [rows, kernel, bias], (rows.shape[0], width), "all_steps"
        )
        axis = int32(0, self._names.fresh(f"{self._prefix}/step_axis"))
        shapes = [(self._batch, width)] * self.steps
        return self._emit_many("SPLIT", [axis, product], shapes, "x_w", numSplits=self.steps)

    def _gather(self, hidden: list[Tensor]) -> None:
        """The fused op's output tensor from the steps' outputs."""
        out = self._op.outputs[0]
        if self._batch > 1 or len(hidden) == 1:
            options = _options("PACK")
            options.axis, options.valuesCount = self._time, len(hidden)
            self.ops.append(Op("PACK", list(hidden), [out], options))
            return
        rows = self._emit(
            "CONCATENATION", list(hidden), (self.steps, self._weights.units), "h", axis=0
        )
        self.ops.append(reshape(rows, out, self._names))


_OPTIONS = {
    "ADD": "AddOptions",
    "CONCATENATION": "ConcatenationOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "SPLIT": "SplitOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
}


def _options(name: str) -> Any:
    return options_type(_OPTIONS[name])() if name in _OPTIONS else None


def _take_single_steps(graph: Graph) -> None:
    """y[:, t] of the gathered steps is the step's own output (return_sequences=False)."""
    makers = graph.producers()
    for op in list(graph.ops):
        if op.name != "STRIDED_SLICE":
            continue
        step = _single_step(op, makers)
        out = op.outputs[0]
        if step is None or step.shape != out.shape or step in graph.outputs:
            continue
        graph.ops.remove(op)
        if out not in graph.outputs:
            # Keeps the step's name, by which it is known as one of many alike.
            graph.replace_uses(out, step)
            continue
        maker = makers[step]
        maker.outputs = [out if t is step else t for t in maker.outputs]
        makers[out] = maker
        for reader in graph.ops:
            reader.inputs = [out if t is step else t for t in reader.inputs]


def _single_step(op: Op, makers: dict[Tensor, Op]) -> Tensor | None:
    """The part that a STRIDED_SLICE takes out of a PACK, or of a CONCATENATION seen as one."""
    source = op.input(0)
    bounds = [op.input(i).data for i in (1, 2, 3)]
    o = op.options
    if any(b is None for b in bounds) or o.ellipsisMask or o.newAxisMask or o.offset:
        return None
    begin, end, strides = ([int(v) for v in b.reshape(-1)] for b in bounds if b is not None)
    maker = makers.get(source)
    if maker is not None and maker.name == "RESHAPE":
        maker = makers.get(maker.input(0))
    if maker is None or maker.name not in ("PACK", "CONCATENATION"):
        return None
    parts = maker.inputs
    axis = [i for i, d in enumerate(source.shape) if d == len(parts)]
    shrunk = [i for i in range(len(begin)) if o.shrinkAxisMask >> i & 1]
    if len(shrunk) != 1 or shrunk[0] not in axis:
        return None
    if maker.name == "PACK" and int(maker.options.axis) % len(source.shape) != shrunk[0]:
        return None
    if maker.name == "CONCATENATION" and (
        int(maker.options.axis) != 0
        or any(t is None or t.shape[0] != 1 for t in parts)
        or any(d != 1 for d in source.shape[: shrunk[0]])
    ):
        return None
    for i in range(len(begin)):
        if i == shrunk[0]:
            continue
        kept = slice(
            None if o.beginMask >> i & 1 else begin[i],
            None if o.endMask >> i & 1 else end[i],
            strides[i],
        ).indices(source.shape[i])
        if kept != (0, source.shape[i], 1):
            return None
    row = begin[shrunk[0]]
    return parts[row] if -len(parts) <= row < len(parts) else None
