"""Unrolls WHILE loops of fixed length, and inlines IF where the branch is known.

Pattern: a WHILE whose condition depends on constants alone, as Keras's LSTM, GRU, SimpleRNN and RNN
convert when the sequence length is static. The body is written out once per step into the graph
that held the loop, so that every step's tensors are ordinary tensors which calibration sees and
quantization handles; weights stay one constant. The counters, and all that is computed from them,
fold away; the accumulator becomes one CONCATENATION of the steps' outputs; the projection of the
inputs is done for all steps at once (see `tidy`).

Cost: steps * ops of the body in operators, bounded by `max_steps` and `max_ops`.
"""

from __future__ import annotations

import dataclasses

from tfq.graph.model import Graph, Model, Op, Tensor
from tfq.runtime import Runner
from tfq.unroll.tidy import reshape, tidy
from tfq.unroll.trace import Names, Tracer, UnrollError

NAME = "unroll_while"


@dataclasses.dataclass(frozen=True)
class Unrolled:
    """What became of the loops and branches of a model.

    Attributes:
      done: the first output tensor of each that was rewritten.
      left: (first output tensor, reason) of each that stays.
      single: those of `done` that ran one step: only a state from run to run gives that a sense.
    """

    done: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    single: tuple[str, ...] = ()


def apply(model: Model, *, max_steps: int = 512, max_ops: int = 20000) -> Unrolled:
    """Unrolls every WHILE of fixed length and inlines every IF on a constant, in place.

    Args:
      model: a float model. Subgraphs that nothing calls any more are dropped from it.
      max_steps: loops with more steps stay.
      max_ops: loops that would make their graph larger than this stay.

    Returns:
      What was rewritten, and what stays, with the reason.
    """
    done: list[str] = []
    left: list[tuple[str, str]] = []
    entries = [0, *sorted({s.graph for s in model.signatures} - {0})]
    for index in entries:
        graph = model.graphs[index]
        if any(op.name in ("WHILE", "IF") for op in graph.ops):
            _expand(model, graph, done, left, max_steps, max_ops)
    if done:
        drop_unused_graphs(model)
        _settle_shapes(model)
    return Unrolled(tuple(done), tuple(left))


def _expand(
    model: Model,
    graph: Graph,
    done: list[str],
    left: list[tuple[str, str]],
    max_steps: int,
    max_ops: int,
) -> None:
    names = Names(t.name for t in graph.tensors())
    tracer = Tracer(model, names, max_steps=max_steps, max_ops=max_ops)
    env: dict[Tensor, Tensor] = {}
    for op in graph.ops:
        inputs = [None if t is None else env.get(t, t) for t in op.inputs]
        results: list[Tensor] | None
        if op.name in ("WHILE", "IF"):
            try:
                results = tracer.follow(op, inputs)
                done.append(op.outputs[0].name)
            except UnrollError as reason:
                left.append((op.outputs[0].name, str(reason)))
                results = None
        else:
            results = tracer.simplify(op, inputs, "")
        if results is None:
            tracer.record(op, inputs, op.outputs)
        else:
            env.update(zip(op.outputs, results, strict=True))
    for t in graph.outputs:
        tracer.materialize(env.get(t, t))
    graph.ops = list(tracer.ops)
    _keep_outputs(graph, env, names)
    graph.prune()
    tidy(graph, names)


def _keep_outputs(graph: Graph, env: dict[Tensor, Tensor], names: Names) -> None:
    """Makes the graph compute its old output tensors, so that names and signatures stay."""
    makers = graph.producers()
    taken: set[Tensor] = set()
    for t in dict.fromkeys(graph.outputs):
        result = env.get(t, t)
        if result is t:
            continue
        maker = makers.get(result)
        if maker is not None and result not in taken and result not in graph.outputs:
            taken.add(result)
            maker.outputs = [t if o is result else o for o in maker.outputs]
            for op in graph.ops:
                op.inputs = [t if i is result else i for i in op.inputs]
            t.shape, t.signature = result.shape, result.signature
            env.update({k: t for k, v in env.items() if v is result})
            continue
        t.shape, t.signature = result.shape, result.signature
        graph.ops.append(reshape(result, t, names))


def drop_unused_graphs(model: Model) -> None:
    """Drops subgraphs that no signature and no op reaches from the main graph, and renumbers."""
    reached: list[int] = []
    queue = [0, *(s.graph for s in model.signatures)]
    while queue:
        index = queue.pop()
        if index not in reached and 0 <= index < len(model.graphs):
            reached.append(index)
            queue += [
                getattr(op.options, field)
                for op in model.graphs[index].ops
                for field in _graph_fields(op)
            ]
    kept = sorted(reached)
    if len(kept) == len(model.graphs):
        return
    number = {old: new for new, old in enumerate(kept)}
    seen: set[int] = set()
    for index in kept:
        for op in model.graphs[index].ops:
            if id(op.options) in seen:
                continue
            seen.add(id(op.options))
            for field in _graph_fields(op):
                old = getattr(op.options, field)
                setattr(op.options, field, number.get(old, old))
    for s in model.signatures:
        s.graph = number[s.graph]
    model.graphs = [model.graphs[i] for i in kept]


def _graph_fields(op: Op) -> list[str]:
    """The names of an op's options that hold the number of a graph."""
    if op.name == "CALL":
        return ["subgraph"]
    return [f for f in vars(op.options or object) if f.endswith("SubgraphIndex")]


def _settle_shapes(model: Model) -> None:
    """Gives tensors whose shape used to be dynamic the shape that the interpreter finds."""
    graph = model.main
    tensors = list(graph.tensors())
    free = [t for t in tensors if t.signature is not None]
    if not free or any(t.signature is not None for t in graph.inputs):
        return
    details = {d["index"]: d for d in Runner(model.to_bytes(), kernels="builtin").tensor_details()}
    for i, t in enumerate(tensors):
        if t.signature is None or i not in details:
            continue
        # Outputs of ops with data-dependent shapes are still unknown after allocation.
        found = tuple(int(d) for d in details[i]["shape"])
        if 0 not in found and len(found) == len(t.shape):
            t.shape, t.signature = found, None
