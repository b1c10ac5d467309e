"""One model that computes the float model and every quantized tensor on the float model's values.

The float graph as it is, and beside it, for every paired tensor T, the quantized ops that compute T
from other paired tensors, each of which is replaced by

    S (float) -> QUANTIZE on S's grid

One invocation gives all isolated values, by the kernels that run the quantized model. What lies
between two paired tensors (tables of CAST, ADD and GATHER, conversions to other grids) goes along.
Indices, masks and tensors that stay float are read from the float graph where it has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tfq.errors import ModelError, TfqError
from tfq.evaluate.layers.pairing import Pairing
from tfq.graph.check import run_in_child
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.graph.optable import effects, op_version


@dataclasses.dataclass(frozen=True)
class IsolatedModels:
    """Where the isolated values are computed.

    Attributes:
      models: files, each with the inputs and the whole of the float graph; at least one.
      float_index: name of a paired tensor -> index of its float counterpart in every model.
      index: name of a paired tensor -> (which model, index of the isolated tensor).
      reasons: name of a paired tensor without isolated values -> why.
    """

    models: tuple[bytes, ...]
    float_index: Mapping[str, int]
    index: Mapping[str, tuple[int, int]]
    reasons: Mapping[str, str]


def isolate(pairing: Pairing, *, check: bool = True) -> IsolatedModels:
    """Builds the model of isolated values, or several where one does not run.

    Args:
      pairing: the two models.
      check: run each once in a process of its own, which a crash would end.

    Raises:
      ModelError: the float model itself does not run.
    """
    paired = pairing.paired
    producers = pairing.quantized.main.producers()
    targets, reasons = [], {}
    for t, p in paired.items():
        if t in producers:
            needed, why = _needed(t, pairing)
            if why:
                reasons[p.name] = why
            else:
                targets.append((t, needed))
    names = {t: p.name for t, p in paired.items()}
    built = _build_all(pairing, targets, names, reasons, check=check)
    index = {n: (k, i) for k, (_, found) in enumerate(built) for n, i in found.items()}
    # The float graph comes first in every model, so its tensors have the same indices in all.
    at = {t.name: i for i, t in enumerate(_whole(pairing.float_model.main, [], []).tensors())}
    floats = {p.name: at[p.float_name] for p in pairing.pairs}
    return IsolatedModels(tuple(data for data, _ in built), floats, index, reasons)


_Target = tuple[Tensor, frozenset[Op]]
_Built = tuple[bytes, dict[str, int]]


def _needed(target: Tensor, pairing: Pairing) -> tuple[frozenset[Op], str]:
    """The ops between `target` and what it is computed from, or why they cannot be cut out."""
    paired, producers = pairing.paired, pairing.quantized.main.producers()
    needed: set[Op] = set()
    stack = [producers[target]]
    while stack:
        op = stack.pop()
        if op in needed:
            continue
        if not effects(op.name).repeatable:
            return frozenset(), f"{op.label} cannot be run apart from the model"
        needed.add(op)
        for t in op.inputs:
            if t is None or t.is_const or t in paired or _from_float(t, pairing) is not None:
                continue
            if t.is_variable or t not in producers:
                return frozenset(), f"{op.label} reads {t.name!r}, which only the model itself has"
            stack.append(producers[t])
    return frozenset(needed), ""


def _from_float(t: Tensor, pairing: Pairing) -> Tensor | None:
    """The float graph's tensor that holds the same values: an index, a mask, a float tensor."""
    twin = pairing.counterparts.get(t)
    if twin is None or twin.dtype != t.dtype or t.quant is not None or twin.quant is not None:
        return None
    return None if t.is_variable else twin


def _build_all(
    pairing: Pairing,
    targets: Sequence[_Target],
    names: Mapping[Tensor, str],
    reasons: dict[str, str],
    *,
    check: bool,
) -> list[_Built]:
    """One model with all targets, or, where that does not run, as few as possible."""
    if not targets:
        return [_build(pairing, [], names)]
    whole = _build(pairing, targets, names)
    why = _refusal(whole[0], check=check)
    if not why:
        return [whole]
    alone = _build(pairing, [], names)
    if said := _refusal(alone[0], check=check):
        raise ModelError(f"The float model does not run: {said}")
    bad: dict[str, str] = {}

    def halve(part: Sequence[_Target], why: str) -> list[_Built]:
        if len(part) == 1:
            bad[names[part[0][0]]] = why
            return []
        found = []
        for half in (part[: len(part) // 2], part[len(part) // 2 :]):
            built = _build(pairing, half, names)
            said = _refusal(built[0], check=check)
            found += halve(half, said) if said else [built]
        return found

    parts = halve(targets, why)
    reasons.update(bad)
    good = [t for t in targets if names[t[0]] not in bad]
    if good and bad and len(parts) > 1:
        together = _build(pairing, good, names)
        if not _refusal(together[0], check=check):
            return [together]
    return parts or [alone]


def _refusal(data: bytes, *, check: bool) -> str:
    """Why a model does not run, or nothing."""
    if not check:
        return ""
    try:
        run_in_child(data, where="the model of isolated layers", kernels=("xnnpack",))
    except TfqError as e:
        return str(e)
    return ""


def _build(
    pairing: Pairing, targets: Sequence[_Target], names: Mapping[Tensor, str]
) -> tuple[bytes, dict[str, int]]:
    """The float graph with the ops of `targets`; index of each target by its pair's name."""
    # Ops and tensors of the float graph are shared with the pairing, and not changed.
    base = pairing.float_model
    ops: list[Op] = []
    made: dict[Tensor, Tensor] = {}  # Of the quantized graph -> isolated.
    entries: dict[Tensor, Tensor] = {}  # Paired -> its float counterpart on its grid.
    needed = frozenset().union(*(n for _, n in targets))
    twin = {t.name: t for t in base.main.tensors()}
    floats = {t: twin[p.float_name] for t, p in pairing.paired.items()}

    def entry(t: Tensor) -> Tensor:
        if t not in entries:
            entries[t] = _plain(t, f"tfq/entry/{t.name}")
            options = options_type("QuantizeOptions")()
            op = Op("QUANTIZE", [floats[t]], [entries[t]], options)
            op.version = op_version(op)
            ops.append(op)
        return entries[t]

    def read(t: Tensor | None) -> Tensor | None:
        if t is None or t.is_const:
            return t
        if t in floats:
            return entry(t)
        same = _from_float(t, pairing)
        return same if same is not None else made[t]

    for op in pairing.quantized.main.ops:
        if op not in needed:
            continue
        inputs = [read(t) for t in op.inputs]
        results = [_plain(t, f"tfq/isolated/{t.name}") for t in op.outputs]
        made.update(zip(op.outputs, results, strict=True))
        ops.append(dataclasses.replace(op, inputs=inputs, outputs=results))
    graph = _whole(base.main, ops, [made[t] for t, _ in targets])
    position = {t: i for i, t in enumerate(graph.tensors())}
    data = Model([graph, *base.graphs[1:]]).to_bytes()
    return data, {names[t]: position[made[t]] for t, _ in targets}


def _whole(base: Graph, ops: list[Op], results: list[Tensor]) -> Graph:
    """The float graph and more."""
    # A delegate computes what nobody reads only where it is an output.
    outputs = list(dict.fromkeys([*base.outputs, *results]))
    return Graph("isolated", [*base.ops, *ops], base.inputs, outputs)


def _plain(t: Tensor, name: str) -> Tensor:
    """A computed tensor like `t`."""
    return dataclasses.replace(t, name=name)
