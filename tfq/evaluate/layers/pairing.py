"""Which tensors of a quantized model stand for which of the float model.

Tensors are paired by name: tfq keeps names when it quantizes, and other converters keep most, but
not those of inputs and outputs, which are paired as the signatures say. Where a tensor is float in
both models (a float boundary, an op that was left float), the integers that it is rounded to, or
read from, stand for it.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Container, Mapping, Sequence

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.graph.numerics import Grid
from tfq.graph.optable import Kind, spec
from tfq.rewrite.prepare import unique_names

# Types that activations have in integer models.
ACTIVATIONS = ("int8", "uint8", "int16")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A quantized tensor and its float counterpart.

    Attributes:
      name: of the quantized tensor.
      float_name: of the float tensor.
      op: label of the op that computes it, or "INPUT". A conversion between two grids of one tensor
        is passed over.
      shape: of both.
      grid: of the quantized tensor.
      inputs: names of the paired tensors that it is computed from.
      shares: names of the paired tensors whose grid ops force to be the same.
    """

    name: str
    float_name: str
    op: str
    shape: tuple[int, ...]
    grid: Grid
    inputs: tuple[str, ...]
    shares: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Pairing:
    """Both models and what they have in common.

    Attributes:
      float_model, quantized: the models. Tensors of their main graphs have names of their own, and
        those that nobody reads are outputs, or delegates would not compute them.
      paired: the quantized model's tensors that have a counterpart, in the order of execution.
      unmatched: names of quantized tensors without a counterpart.
      counterparts: quantized model's tensor -> the float model's tensor of the same name, or the
        same input or output, and of the same shape (computed ones only; types may differ).
      input_names: input tensor of the quantized model -> that of the float model.
    """

    float_model: Model
    quantized: Model
    paired: Mapping[Tensor, Pair]
    unmatched: tuple[str, ...]
    counterparts: Mapping[Tensor, Tensor]
    input_names: Mapping[str, str]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(self.paired.values())


def is_activation(t: Tensor) -> bool:
    """Whether a tensor's integers stand for real values on one grid."""
    return (
        not t.is_const
        and t.dtype in ACTIVATIONS
        and t.quant is not None
        and t.quant.scale.size == 1
        and t.size > 0
    )


def pair(
    float_model: bytes,
    quantized: bytes,
    *,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
) -> Pairing:
    """Finds out which tensors of two models belong together.

    Args:
      float_model: a float `.tflite` file, prepared (`tfq.rewrite.prepare`) with the same options
        as the quantized one was made with, where tfq made it.
      quantized: the quantized file, of tfq or another converter.
      inputs, outputs: the float model's tensor name -> the quantized model's. Where it is not
        given, names that are the same belong together, and of the others shapes that occur once.

    Raises:
      ModelError: one of them is damaged, or their inputs differ or cannot be told apart.
    """
    reference = _read(float_model, "the float model")
    model = _read(quantized, "the quantized model")
    computed = {t.name: t for t in _computed(reference.main)}
    counterparts = {
        t: computed[t.name]
        for t in _computed(model.main)
        if t.name in computed and t.shape == computed[t.name].shape
    }
    counterparts |= _ends(model.main.outputs, reference.main.outputs, outputs, counterparts)
    counterparts |= _ends(model.main.inputs, reference.main.inputs, inputs, counterparts)
    strange = [t for t in model.main.inputs if t not in counterparts]
    if strange or len(model.main.inputs) != len(reference.main.inputs):
        alike = sorted(t.shape for t in model.main.inputs) == sorted(
            t.shape for t in reference.main.inputs
        )
        why = (
            "Which input of the quantized model is which of the float model cannot be told."
            if alike
            else "The two models have different inputs, so they cannot be run on the same samples."
        )
        raise ModelError(
            f"{why} The float model takes {_said(reference.main)}; the quantized one "
            f"{_said(model.main)}."
        )
    for graph in (reference.main, model.main):
        _expose(graph)
    matched = _matched(model.main, counterparts)
    producers = model.main.producers()
    shares = _shared(model.main, matched)
    pairs = {
        t: Pair(
            t.name,
            twin.name,
            _label(t, matched, producers),
            t.shape,
            Grid.of(t.dtype, t.quant) if t.quant is not None else Grid(t.dtype),
            tuple(dict.fromkeys(s.name for s in _sources(t, matched, producers))),
            shares.get(t, ()),
        )
        for t, twin in matched.items()
    }
    # The same values on another grid, before or after the tensor that has the name.
    inside = {t for t in _computed(model.main) if _copied(t, producers) in matched}
    inside |= {s for t in matched if (s := _copied(t, producers)) is not None}
    unmatched = tuple(
        t.name
        for t in _computed(model.main)
        if is_activation(t) and t not in matched and t not in inside
    )
    names = {t.name: counterparts[t].name for t in model.main.inputs if t in counterparts}
    return Pairing(
        reference,
        model,
        pairs,
        unmatched,
        counterparts,
        names,
    )


def _ends(
    own: Sequence[Tensor],
    reference: Sequence[Tensor],
    names: Mapping[str, str] | None,
    known: Mapping[Tensor, Tensor],
) -> dict[Tensor, Tensor]:
    """Inputs or outputs of the quantized model -> those of the float model."""
    if names is not None:
        mine, theirs = {t.name: t for t in own}, {t.name: t for t in reference}
        return {
            mine[b]: theirs[a]
            for a, b in names.items()
            if b in mine and a in theirs and mine[b].shape == theirs[a].shape
        }
    taken = set(known.values())
    strange = [t for t in own if t not in known]
    free = [t for t in reference if t not in taken]
    ours, others = (collections.Counter(t.shape for t in ts) for ts in (strange, free))
    by_shape = {t.shape: t for t in free if others[t.shape] == 1}
    return {t: by_shape[t.shape] for t in strange if ours[t.shape] == 1 and t.shape in by_shape}


def _said(graph: Graph) -> str:
    return ", ".join(f"{t.name!r} {t.dtype}{list(t.shape)}" for t in graph.inputs) or "none"


def _read(data: bytes, where: str) -> Model:
    model = Model.from_bytes(data, where=where)
    unique_names(model.main)
    return model


def _expose(graph: Graph) -> None:
    """Makes outputs of what nobody reads."""
    read = {t for op in graph.ops for t in op.inputs} | set(graph.outputs)
    graph.outputs += [
        t for t in _computed(graph) if t not in read and (t.dtype == "float32" or is_activation(t))
    ]


def _computed(graph: Graph) -> list[Tensor]:
    """Inputs, then what ops compute, in order."""
    return list(dict.fromkeys([*graph.inputs, *(t for op in graph.ops for t in op.outputs)]))


def _matched(graph: Graph, counterparts: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """Quantized tensor -> float tensor, in the order of the quantized graph."""

    def is_float(t: Tensor) -> bool:
        return t.dtype == "float32"

    both = {t: twin for t, twin in counterparts.items() if is_float(t) and is_float(twin)}
    beside: dict[Tensor, Tensor] = {}
    for op in graph.ops:
        if op.name == "QUANTIZE" and op.input(0) in both:
            beside[op.outputs[0]] = both[op.input(0)]
        elif op.name == "DEQUANTIZE" and op.outputs[0] in both:
            beside[op.input(0)] = both[op.outputs[0]]
    found = {}
    for t in _computed(graph):
        twin = counterparts.get(t, beside.get(t))
        if is_activation(t) and twin is not None and is_float(twin):
            found[t] = twin
    return found


def _copied(t: Tensor, producers: Mapping[Tensor, Op]) -> Tensor | None:
    """What a QUANTIZE of integers reads."""
    op = producers.get(t)
    if op is None or op.name != "QUANTIZE" or not is_activation(op.input(0)):
        return None
    return op.input(0)


def _label(t: Tensor, matched: Container[Tensor], producers: Mapping[Tensor, Op]) -> str:
    return op.label if (op := maker(t, matched, producers)) is not None else "INPUT"


def maker(t: Tensor, matched: Container[Tensor], producers: Mapping[Tensor, Op]) -> Op | None:
    """The op that computes `t`, not one that only moves it to another grid; None for an input."""
    op = producers.get(t)
    while (source := None if op is None else _copied(op.outputs[0], producers)) is not None:
        if source in matched or source not in producers:
            break
        op = producers[source]
    return op


def _sources(
    t: Tensor, matched: Mapping[Tensor, Tensor], producers: Mapping[Tensor, Op]
) -> list[Tensor]:
    """The nearest paired tensors that `t` depends on, in the order of the ops' inputs."""
    found: list[Tensor] = []
    seen: set[Tensor] = set()
    stack = [t]
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current is not t and current in matched:
            found.append(current)
        elif current in producers:
            stack += [x for x in reversed(producers[current].inputs) if x is not None]
    return found


def _shared(graph: Graph, matched: Mapping[Tensor, Tensor]) -> dict[Tensor, tuple[str, ...]]:
    """For each paired tensor, the others that ops of kind SAME put on its grid."""
    group: dict[Tensor, list[Tensor]] = {}
    for op in graph.ops:
        row = spec(op.name)
        if row is None or row.kind is not Kind.SAME:
            continue
        at = range(len(op.inputs)) if row.data is None else row.data
        read = [op.inputs[i] for i in at if i < len(op.inputs)]
        given = op.outputs if row.outputs is None else [op.outputs[i] for i in row.outputs]
        members = [t for t in (*read, *given) if t is not None and is_activation(t)]
        for t in members[1:]:
            if not _same_grid(members[0], t):
                continue
            a, b = group.setdefault(members[0], [members[0]]), group.setdefault(t, [t])
            if a is not b:
                a += b
                group.update(dict.fromkeys(b, a))
    return {
        t: tuple(other.name for other in members if other is not t and other in matched)
        for t, members in group.items()
    }


def _same_grid(a: Tensor, b: Tensor) -> bool:
    assert a.quant is not None
    assert b.quant is not None
    return Grid.of(a.dtype, a.quant) == Grid.of(b.dtype, b.quant)
