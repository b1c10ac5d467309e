"""Everything about a plan that can be said before any sample was seen.

Which kernel or table each op gets, in which dtype, and which tensors must share a grid. From this
follows which tensors need statistics at all: a quarter of a MobileNet's activations only move.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping

import numpy as np

from tfq.errors import TfqError
from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.numerics import LIMITS, Grid, activation_grid
from tfq.graph.optable import MOVES, Kind, OpSpec, spec
from tfq.graph.quantizable import obstacle
from tfq.plan.entries import INSIDE, INTEGER, KEEP_FLOAT, LOOKUP, PLAIN
from tfq.plan.lookup import Chain, find_chains
from tfq.plan.normalizations import wide_ops
from tfq.plan.power_spectra import REASON as POWER
from tfq.plan.power_spectra import find_powers, linear_before
from tfq.plan.scheme import Config

# Of ops that share a grid: their results lie between the steps of the integers that they read.
_AVERAGES = {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """How one op will be emitted.

    Attributes:
      mode: one of the plan's modes.
      activations: the dtype it computes in.
      reason: why, if that is unusual.
      chain: for LOOKUP, what the table is of.
      terms: for sums of squares in int32, how many squares a result sums.
    """

    mode: str
    activations: str
    reason: str = ""
    chain: Chain | None = None
    terms: int = 1


class Groups:
    """Disjoint sets of tensors that share one grid, some of them fixed to a given one."""

    def __init__(self) -> None:
        self._parent: dict[Tensor, Tensor] = {}
        self.pinned: dict[Tensor, tuple[Grid, str]] = {}

    def find(self, t: Tensor) -> Tensor:
        root = t
        while root in self._parent:
            root = self._parent[root]
        while t is not root:
            self._parent[t], t = root, self._parent[t]
        return root

    def pin(self, t: Tensor, grid: Grid, reason: str) -> None:
        self.pinned[self.find(t)] = (grid, reason)

    def tie(self, a: Tensor, b: Tensor) -> bool:
        """Joins the sets of `a` and `b` unless they are fixed to different grids."""
        ra, rb = self.find(a), self.find(b)
        if ra is rb:
            return True
        pa, pb = self.pinned.get(ra), self.pinned.get(rb)
        if pa is not None and pb is not None and pa[0] != pb[0]:
            return False
        self._parent[rb] = ra
        if pa is None and pb is not None:
            self.pinned[ra] = pb
        self.pinned.pop(rb, None)
        return True


@dataclasses.dataclass(frozen=True)
class Layout:
    """Attributes:
    choices: one per op of the main graph.
    dtypes: computed float tensor -> dtype it is produced in ("int8", "int16", "float32").
    groups: tensors that share a grid.
    sources: tensors whose statistics a group's range is made of.
    integers: tensors on the grid of integers as they are (scale 1), of which they may hold a few:
      what CAST makes of integers or bools, and what only moves or selects among such values.
    observed: names of the tensors that calibration watches. More than the sources: all that any
      layout of the graph could need (an op kept float, in 16 bits, a table taken apart), so that
      another plan needs no other statistics. None where this layout needs none.
    """

    choices: Mapping[Op, Choice]
    dtypes: Mapping[Tensor, str]
    groups: Groups
    sources: frozenset[Tensor]
    integers: frozenset[Tensor] = frozenset()
    observed: frozenset[str] = frozenset()


def data_inputs(op: Op, s: OpSpec) -> list[int]:
    """Indices of the inputs of `op` that carry float data."""
    indices = range(len(op.inputs)) if s.data is None else s.data
    found = []
    for i in indices:
        t = op.inputs[i] if i < len(op.inputs) else None
        if t is not None and t.dtype == "float32":
            found.append(i)
    return found


def float_outputs(op: Op) -> list[Tensor]:
    return [t for t in op.outputs if t.dtype == "float32"]


def make_layout(
    graph: Graph,
    config: Config,
    trained: Mapping[str, Grid],
    left: Mapping[str, str] | None = None,
) -> Layout:
    """Decides modes, dtypes and shared grids.

    Args:
      graph: the prepared main graph.
      config: the user's choices.
      trained: grids that training wrote into the graph, by tensor name.
      left: why loops and recurrent ops could not be unrolled, by output name.

    Raises:
      TfqError: ops that have no integer form and were not allowed to stay float; all are named.
    """
    choices = _choose(graph, config, trained, left or {})
    dtypes: dict[Tensor, str] = {}
    base = config.scheme.activations
    consumers = graph.consumers()
    for t in graph.inputs:
        if t.dtype == "float32":
            widths = {choices[op].activations for op, _ in consumers.get(t, [])}
            # What the user gives in full precision is not narrowed before wide ops read it.
            given = config.input_type_of(t.name)
            finer = given == "int16" or (given == "float32" and widths == {"int16"})
            dtypes[t] = "int16" if base == "int8" and finer else base
    integers: set[Tensor] = set()
    known = {t for t in graph.tensors() if t.name in trained}
    for op in graph.ops:
        choice = choices[op]
        s = spec(op.name)
        averages = op.name in _AVERAGES and op.input(0) in integers
        same = choice.mode == INTEGER and s is not None and s.kind is Kind.SAME
        if same and s is not None and not choice.reason and not averages:
            # What only moves values keeps the width they were computed in.
            # Integers for which training chose a grid are read on that one.
            widths = {
                trained[t.name].dtype
                if t in integers and t.name in trained
                else dtypes.get(t, choice.activations)
                for t in (op.input(i) for i in data_inputs(op, s))
                if not t.is_const
            }
            width = widths.pop() if len(widths) == 1 else choice.activations
            if not obstacle(op, width) and width != choice.activations:
                choice = dataclasses.replace(choice, activations=width)
                choices[op] = choice
        for t in float_outputs(op):
            dtypes[t] = "float32" if choice.mode == KEEP_FLOAT else choice.activations
        if choice.mode == INTEGER and _stays_integers(op, choice, dtypes, integers - known):
            integers.update(float_outputs(op))
    groups = _tie(graph, config, choices, dtypes, trained, integers)
    sources = _sources(graph, choices, groups, known)
    observed = _observed(graph, sources) if sources else frozenset()
    return Layout(choices, dtypes, groups, sources, frozenset(integers), observed)


def unmoved(t: Tensor, producers: Mapping[Tensor, Op]) -> Tensor:
    """The computed tensor that has the values of `t`, all of them, before they were moved about."""
    while (op := producers.get(t)) is not None and op.name in MOVES:
        x = op.input(0)
        if x.is_const or x.dtype != "float32":
            break
        t = x
    return t


def _observed(graph: Graph, sources: Collection[Tensor]) -> frozenset[str]:
    producers, consumers = graph.producers(), graph.consumers()
    tensors = [*graph.inputs, *(t for op in graph.ops for t in op.outputs)]
    # LiteRT need not keep what nothing reads.
    read = [t for t in tensors if t in consumers or t in graph.outputs or t in sources]
    return frozenset(unmoved(t, producers).name for t in read if t.dtype == "float32" and t.size)


def joined_tensors(graph: Graph, layout: Layout) -> list[Tensor]:
    """Tensors that share a grid with others since a concatenation, say, reads them too."""
    found: dict[Tensor, None] = {}
    groups = layout.groups
    for op in graph.ops:
        if not _joins(op, layout.choices[op]) or not (outs := float_outputs(op)):
            continue
        root = groups.find(outs[0])
        if root in groups.pinned:
            continue
        for t in op.inputs:
            if t in layout.dtypes and t is not None and groups.find(t) is root:
                found[t] = None
    return list(found)


def _joins(op: Op, choice: Choice) -> bool:
    """Whether what an op reads shares the grid of its result, and need not."""
    s = spec(op.name)
    return choice.mode == INTEGER and s is not None and s.kind is Kind.SAME and len(op.inputs) > 1


def set_apart(
    layout: Layout,
    graph: Graph,
    config: Config,
    trained: Mapping[str, Grid],
    tensors: Collection[Tensor],
) -> Layout:
    """The same with grids of their own for some `joined_tensors`: what joins them requantizes.

    Those of `Config.own_grids` have them already.
    """
    groups = _tie(graph, config, layout.choices, layout.dtypes, trained, layout.integers, tensors)
    return dataclasses.replace(layout, groups=groups)


def _stays_integers(
    op: Op, choice: Choice, dtypes: Mapping[Tensor, str], integers: Collection[Tensor]
) -> bool:
    """Whether the values of an op's result are integers as they are, on the grid of scale 1."""
    s = spec(op.name)
    if op.name == "CAST":
        return True
    if s is None or s.kind is not Kind.SAME or op.name in _AVERAGES:
        return False
    data = [op.input(i) for i in data_inputs(op, s)]
    computed = [t for t in data if not t.is_const]
    return bool(computed) and all(
        _are_integers(t, choice.activations)
        if t.is_const
        else t in integers and dtypes.get(t) == choice.activations
        for t in data
    )


def _are_integers(const: Tensor, dtype: str) -> bool:
    values = const.values()
    low, high = LIMITS[dtype]
    return bool(np.all((values == np.rint(values)) & (values >= low) & (values <= high)))


def _choose(
    graph: Graph, config: Config, trained: Mapping[str, Grid], left: Mapping[str, str]
) -> dict[Op, Choice]:
    base = config.scheme.activations
    choices: dict[Op, Choice] = {}
    excluded: set[Tensor] = set()
    for op in graph.ops:
        rule = config.rule_for(op.key, "activations")
        if rule is not None and rule.activations == "float32":
            choices[op] = Choice(KEEP_FLOAT, "float32", f"excluded by {rule.regex!r}")
            excluded.update(op.outputs)
    barriers = {t for t in graph.tensors() if t.name in trained} | excluded
    wide = wide_ops(graph) if base == "int8" else {}
    chains = {c.end: c for c in find_chains(graph, base, barriers)}
    powers = find_powers(graph, chains.values()) if base in ("int8", "int16") else []
    for power in powers:
        if any(op in choices for op in power.ops) or power.square.input(0).name in trained:
            continue
        for op in power.ops:
            choices[op] = Choice(INTEGER, "int32", POWER, terms=power.terms)
        wide.update(dict.fromkeys(linear_before(graph, power), POWER))
    for end, chain in chains.items():
        # An op of the chain that others read too may have a table of its own: that is no obstacle.
        if any(op in choices and choices[op].mode != LOOKUP for op in chain.ops):
            continue
        rule = config.rule_for(end.key, "activations")
        choices[end] = Choice(
            LOOKUP,
            "int16" if end in wide or (rule and rule.activations == "int16") else base,
            f"a table over {chain.root.name!r} for {', '.join(o.label for o in chain.ops)}",
            chain,
        )
    _drop_inside(graph, choices, base)
    problems: list[str] = []
    for op in graph.ops:
        if op in choices:
            continue
        choice = _ordinary(op, config, wide.get(op, ""))
        if choice.mode == KEEP_FLOAT and op.key in left:
            choice = dataclasses.replace(choice, reason=left[op.key])
        if choice.mode == KEEP_FLOAT and not _allowed(op, config.allow_float):
            problems.append(f"  {op.label} at {op.key!r}: {choice.reason}")
        choices[op] = choice
    if problems:
        # Custom ops do not run in LiteRT alone, so that there is nothing to allow.
        kinds = {p.split()[0] for p in problems}
        named = ",".join(sorted(k for k in kinds if not k.startswith("CUSTOM")))
        allow = f", or let them stay float with --allow_float={named}" if named else ""
        raise TfqError(
            f"{len(problems)} op(s) cannot become integer:\n" + "\n".join(problems) + "\n"
            f"Replace them in the model{allow}."
        )
    return choices


def _drop_inside(graph: Graph, choices: dict[Op, Choice], base: str) -> None:
    """Marks the ops of which nothing but tables would read the result."""
    owner: dict[Op, Op] = {}
    for end, choice in list(choices.items()):
        if choice.chain is not None:
            owner.update((op, end) for op in choice.chain.ops if op is not end)
    consumers = graph.consumers()
    for op in reversed(graph.ops):
        if op not in owner or op in choices:
            continue
        users = [u for t in op.outputs for u, _ in consumers.get(t, [])]
        tables = all(
            u in choices and (choices[u].mode == INSIDE or _in_table(choices[u], op)) for u in users
        )
        if users and tables and not any(t in graph.outputs for t in op.outputs):
            choices[op] = Choice(INSIDE, base, f"inside the table of {owner[op].outputs[0].name!r}")


def _in_table(choice: Choice, op: Op) -> bool:
    return choice.chain is not None and op in choice.chain.ops


def _allowed(op: Op, allow: tuple[str, ...]) -> bool:
    return any(a == op.name or a == op.label or re.search(a, op.key) for a in allow if a)


def _ordinary(op: Op, config: Config, wide_reason: str) -> Choice:
    s = spec(op.name)
    touches_float = any(t is not None and t.dtype == "float32" for t in [*op.inputs, *op.outputs])
    if s is not None and not touches_float and s.kind is not Kind.FLOAT_ONLY:
        return Choice(PLAIN, "")
    if op.name in ("SHAPE", "RANK"):
        return Choice(PLAIN, "")
    rule = config.rule_for(op.key, "activations")
    wanted = (rule.activations if rule else None) or config.scheme.activations
    if op.name == "CAST" and op.outputs[0].dtype == "float32" and op.input(0).dtype != "bool":
        # The grid of a cast is the integers themselves: 16 bits hold more of them.
        return Choice(INTEGER, "int16", "integers as they are")
    if wide_reason and not obstacle(op, "int16"):
        return Choice(INTEGER, "int16", wide_reason)
    why = obstacle(op, wanted)
    if not why:
        return Choice(INTEGER, wanted)
    other = "int16" if wanted == "int8" else "int8"
    if not obstacle(op, other):
        return Choice(INTEGER, other, f"no {wanted} kernel, so it computes in {other}")
    return Choice(KEEP_FLOAT, "float32", why)


def _tie(
    graph: Graph,
    config: Config,
    choices: Mapping[Op, Choice],
    dtypes: Mapping[Tensor, str],
    trained: Mapping[str, Grid],
    integers: Collection[Tensor],
    apart: Collection[Tensor] = (),
) -> Groups:
    groups = Groups()
    for t in graph.tensors():
        if t.name in trained and not t.is_const and t in dtypes:
            groups.pin(t, trained[t.name], "chosen in training")
    if config.input_range is not None:
        for t in graph.inputs:
            if t.dtype == "float32" and t.name not in trained:
                grid = activation_grid(*config.input_range, config.scheme.activations)
                groups.pin(t, grid, "given by input_range")
    for op in graph.ops:
        choice, s = choices[op], spec(op.name)
        if choice.mode != INTEGER or s is None:
            continue
        if s.kind is Kind.FIXED and s.fixed and choice.activations in s.fixed:
            scale, zero = s.fixed[choice.activations]
            for t in float_outputs(op):
                grid = Grid(choice.activations, (scale,), (zero,))
                groups.pin(t, grid, f"the output grid of {op.label} is fixed")
    for op in graph.ops:
        choice, s = choices[op], spec(op.name)
        if choice.mode != INTEGER or s is None or s.kind is not Kind.SAME:
            continue
        if choice.activations == "int32":
            continue
        outs = float_outputs(op)
        if not outs:
            continue
        for t in outs[1:]:
            groups.tie(outs[0], t)
        data = [op.input(i) for i in data_inputs(op, s)]
        consts = [t for t in data if t.is_const]
        data = [t for t in data if not t.is_const and dtypes.get(t) == choice.activations]
        if outs[0] not in integers:
            data = [t for t in data if t not in integers]
        pins = [groups.pinned.get(groups.find(t)) for t in data]
        alike = len({p[0] for p in pins if p is not None}) == 1 and None not in pins
        alike &= all(_holds(p[0], c) for p in pins if p is not None for c in consts)
        for t, pin in zip(data, pins, strict=True):
            if (t in apart or t.name in config.own_grids) and _joins(op, choice):
                continue
            # A sigmoid's fixed grid would cut off what it is concatenated with: it is requantized.
            if pin is None or alike or len(op.inputs) == 1:
                groups.tie(t, outs[0])
    return groups


def _holds(grid: Grid, const: Tensor) -> bool:
    """Whether the values of a constant lie on a grid's range, or but a step beyond."""
    (lo, hi), step = grid.range(), grid.scale[0]
    values = const.values()
    return bool(np.all((values >= lo - step) & (values <= hi + step)))


def _sources(
    graph: Graph, choices: Mapping[Op, Choice], groups: Groups, trained: Collection[Tensor]
) -> frozenset[Tensor]:
    producers, consumers = graph.producers(), graph.consumers()
    sources = set()
    tensors = [t for t in graph.inputs if t.dtype == "float32"]
    for op in graph.ops:
        if choices[op].mode != INSIDE and choices[op].activations != "int32":
            tensors += float_outputs(op)
    for t in tensors:
        maker = producers.get(t)
        if maker is not None and maker.name == "CAST" and maker.input(0).dtype != "bool":
            # Not for its range, which is fixed, but to see that the integers fit.
            if t not in trained:
                sources.add(t)
            continue
        if groups.find(t) in groups.pinned:
            continue
        if maker is not None and choices[maker].mode == KEEP_FLOAT:
            if t not in consumers and t not in graph.outputs:
                continue
        s = spec(maker.name) if maker is not None else None
        moves = maker is not None and choices[maker].mode == INTEGER and s is not None
        if moves and s is not None and s.kind is Kind.SAME:
            # Its values lie within those of its inputs, which are in the group or on its edges.
            continue
        sources.add(t)
    return frozenset(sources)
