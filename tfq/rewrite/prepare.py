"""From the float file as it came to the float graph that is calibrated and quantized."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from tfq.graph.model import Graph, Model, Tensor
from tfq.graph.optable import Kind, spec
from tfq.rewrite import rewrite
from tfq.rewrite.bound_constants import bound_constants
from tfq.rewrite.core import Applied
from tfq.rewrite.trained_between import grids_between
from tfq.rewrite.trained_ranges import Trained, take_trained_ranges
from tfq.rewrite.trained_weights import find_weights, take_records
from tfq.unroll import if_to_select, loops, lstm


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The canonical float model.

    Attributes:
      model: every op of its main graph is in its quantizable form; tensor names are unique.
      bytes: the same as a file.
      sha256: of `bytes`.
      trained: grids that training wrote into the source.
      applied: the rewrites, in order.
      left: (tensor, reason) of loops and recurrent ops that could not be unrolled.
      single_steps: outputs of fused recurrent ops of one step; their state starts at zero in every
        run now.
      equalization: factors that channels of some activations were scaled by since, by tensor name.
      relaxed: first outputs of ops whose RELU6 became RELU before that.
      absorbed: what was moved from biases into the layers behind after it, by the name of a layer's
        output.
    """

    model: Model
    bytes: bytes
    sha256: str
    trained: Trained
    applied: tuple[Applied, ...]
    left: tuple[tuple[str, str], ...]
    single_steps: tuple[str, ...] = ()
    equalization: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    relaxed: tuple[str, ...] = ()
    absorbed: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


def prepare(source: bytes, *, integer: bool = True, activations: str = "int8") -> Prepared:
    """Rewrites a float model.

    Args:
      source: a float `.tflite` file, with a static batch.
      integer: False for schemes that compute in float: loops, ops and trained quantizers stay.

    Raises:
      ModelError: the source is damaged, a constant holds NaN, its trained ranges contradict each
        other, or trained weights got lost.
    """
    model = Model.from_bytes(source)
    applied: tuple[Applied, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    single: tuple[str, ...] = ()
    records = take_records(model)
    if integer:
        bound_constants(model)
        whiles = loops.apply(model)
        lstms = lstm.apply(model)
        single = lstms.single
        ifs = if_to_select.apply(model)
        # An IF that unrolling left for its condition may be gone now.
        left = (*(w for w in whiles.left if w[0] not in ifs.done), *lstms.left)
        unrolled = tuple(
            Applied(rewrite=name, where=where, op=op)
            for name, op, done in (
                (loops.NAME, "WHILE", whiles.done),
                (if_to_select.NAME, "IF", ifs.done),
                (lstm.NAME, "UNIDIRECTIONAL_SEQUENCE_LSTM", lstms.done),
            )
            for where in done
        )
        records += take_records(model)  # A loop's weights are constants now.
        model, applied = rewrite(model, activations=activations, on_grid=bool(records))
        applied = (*unrolled, *applied)
    unique_names(model.main)
    trained = Trained({})
    if integer:
        grids = take_trained_ranges(model).grids
        grids = {**grids, **grids_between(model.main, grids)}
        trained = Trained({**grids, **find_weights(model.main, records, grids)})
        add_biases(model.main)
    model, data, sha256 = written(model)
    return Prepared(model, data, sha256, trained, applied, left, single)


def written(model: Model) -> tuple[Model, bytes, str]:
    """A model with distinct names as a file: the model read back, the file, and its SHA-256.

    What is read back has the tensor order of the bytes that are run, and keeps what files do not
    hold: which tensors are the same in other steps of an unrolled loop.
    """
    data = model.to_bytes()
    again = Model.from_bytes(data)
    steps = {t.name: t.step for t in model.main.tensors()}
    for t in again.main.tensors():
        t.step = steps.get(t.name)
    return again, data, hashlib.sha256(data).hexdigest()


def unique_names(graph: Graph) -> None:
    """Gives every tensor of the graph a name of its own; the first with a name keeps it."""
    outside = [*graph.inputs, *graph.outputs]
    taken: set[str] = set()
    done: set[Tensor] = set()
    for t in outside:
        if t.name and t.name not in taken:
            taken.add(t.name)
            done.add(t)
    for t in graph.tensors():
        if t in done:
            continue
        base = t.name or "tensor"
        name, n = base, 0
        while name in taken:
            n += 1
            name = f"{base}_{n}"
        t.name = name
        taken.add(name)


def add_biases(graph: Graph) -> None:
    """Gives weighted ops without a bias one of zeros: integer kernels want it, and bias correction
    needs a place to go."""
    for op in graph.ops:
        s = spec(op.name)
        if s is None or s.kind is not Kind.WEIGHTED or s.bias is None or s.weights is None:
            continue
        if op.outputs[0].dtype != "float32":
            continue
        while len(op.inputs) <= s.bias:
            op.inputs.append(None)
        if op.inputs[s.bias] is not None:
            continue
        channels = op.outputs[0].shape[-1]
        op.inputs[s.bias] = Tensor(
            f"{op.outputs[0].name}/bias", (channels,), "float32", np.zeros(channels, np.float32)
        )
