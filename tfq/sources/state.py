"""What a traced function assigns to variables, and whether its outputs ever see it.

A random layer moves the seed on that it draws from, in inference too, where it then does nothing
with it. Such assignments are idle: nothing that an output is computed from reads the variable. They
are taken out, for in the `.tflite` they would be a state between runs.

A model exported in training mode assigns as well, but it is another one than was trained, and is
refused: BatchNormalization normalizes with the very statistics of the batch that go into its moving
averages, and random layers change what they pass on. Imports TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from tfq.errors import ModelError

__all__ = ["holds_state", "without_idle_state"]

_ASSIGNS = re.compile(r"^(Assign\w*VariableOp|ResourceScatter\w+|ResourceApply\w+)$")
_RANDOM = re.compile(r"^Stateless(Random|Parameterized|Truncated)\w+$")
_PASSES = ("Identity", "IdentityN")
# What reduces a batch to its statistics.
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_STATISTICS = ("Mean", "Sum", *_FUSED)
# Scopes that are a model or a call rather than a layer.
_OUTER = re.compile(
    r"^(functional|sequential|model|StatefulPartitionedCall|PartitionedCall)[_\d]*$"
)

_CURE = (
    "export it for inference: give tfq the Keras model object or its .keras file, or export a "
    "function that calls the model with training=False. (Keras 3's model.export() calls models "
    "with layers of preprocessing in training mode.)"
)


def holds_state(function: Any) -> bool:
    """Whether a concrete function assigns to variables."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return any(_ASSIGNS.match(n.op) for n in nodes)


def without_idle_state(function: Any) -> Callable[[dict[str, tf.Tensor]], Any] | None:
    """What a function computes, leaving variables alone that its outputs do not depend on.

    Args:
      function: a concrete function of named tensors.

    Returns:
      A function from its inputs by name to its outputs, as they were structured; None where there
      is nothing to take out.

    Raises:
      ModelError: it was exported in training mode.
    """
    if not holds_state(function):
        return None
    graph = _inlined(function)
    nodes = _Nodes(graph.node)
    live = nodes.behind(t.op.name for t in function.outputs)
    assigns = [n for n in graph.node if _ASSIGNS.match(n.op)]
    _refuse_random(nodes, assigns, live)
    while True:
        # What goes into a variable that matters matters as well.
        real = [n for n in assigns if nodes.source(n.input[0]) in live]
        more = live | nodes.behind(_name(i) for n in real for i in n.input)
        if more == live:
            break
        live = more
    idle = [n for n in assigns if nodes.source(n.input[0]) not in live]
    if not idle:
        return None
    _refuse_training(function, nodes, idle, live)
    inside = any(_ASSIGNS.match(n.op) for f in graph.library.function for n in f.node_def)
    return _rebuilt(function, graph, idle, keep_order=bool(real) or inside)


def _inlined(function: Any) -> Any:
    """The graph with the functions that it calls written out, loops and branches excepted."""
    from tensorflow.python.framework.convert_to_constants import _run_inline_graph_optimization

    return _run_inline_graph_optimization(function, False, False)


def _name(edge: str) -> str:
    return edge.lstrip("^").split(":")[0]


class _Nodes:
    """The nodes of a graph by name."""

    def __init__(self, nodes: Iterable[Any]):
        self._nodes = {n.name: n for n in nodes}

    def __getitem__(self, name: str) -> Any:
        return self._nodes[name]

    def behind(self, names: Iterable[str]) -> set[str]:
        """The names of all nodes that values flow from into these, and these."""
        found: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name in found or name not in self._nodes:
                continue
            found.add(name)
            node = self._nodes[name]
            # In training, the averages that go in are only moved on.
            training = node.op in _FUSED and node.attr["is_training"].b
            edges = node.input[:3] if training else node.input
            left += [_name(i) for i in edges if not i.startswith("^")]
        return found

    def source(self, edge: str) -> str:
        """The node that a resource comes from."""
        name = _name(edge)
        while name in self._nodes and self._nodes[name].op in _PASSES:
            name = _name(self._nodes[name].input[0])
        return name


def _refuse_random(nodes: _Nodes, assigns: list[Any], live: set[str]) -> None:
    """Stops where outputs depend on random numbers from a seed that is moved on."""
    seeds = {nodes.source(n.input[0]) for n in assigns}
    drawn = sorted(n for n in live if _RANDOM.match(nodes[n].op) and nodes.behind([n]) & seeds)
    if drawn:
        raise ModelError(
            f"The model draws random numbers at {_listed(map(_scope, drawn))}, and its outputs "
            f"depend on them. If it was exported in training mode, {_CURE} If it is meant to "
            "sample, make the random numbers an input of the model."
        )


def _refuse_training(function: Any, nodes: _Nodes, idle: list[Any], live: set[str]) -> None:
    """Stops where statistics of the batch go both into an output and into a variable."""
    captured = {inner.op.name for _, inner in function.graph.captures}
    inputs = {t.op.name for t in function.inputs} - captured
    found = []
    for node in idle:
        shared = nodes.behind(_name(i) for i in node.input[1:] if not i.startswith("^")) & live
        if any(nodes[n].op in _STATISTICS and nodes.behind([n]) & inputs for n in shared):
            found.append(_scope(node.name))
    if found:
        raise ModelError(
            f"The model was exported in training mode: at {_listed(found)} it normalizes with the "
            "statistics of each batch and moves its averages on, where inference uses the averages "
            f"of training. To mend it, {_CURE}"
        )


def _scope(node: str) -> str:
    """The layer that a node belongs to, by its name."""
    parts = [p for p in node.split("/") if not _OUTER.match(p)]
    return parts[0] if parts else node


def _listed(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(map(repr, unique[:3])) + (", ..." if len(unique) > 3 else "")


def _rebuilt(
    function: Any, graph: Any, idle: list[Any], *, keep_order: bool
) -> Callable[[dict[str, tf.Tensor]], Any]:
    """The function from its graph without the nodes in `idle`.

    Args:
      keep_order: whether what is left runs in its order, which only state needs.
    """
    gone = {n.name for n in idle}
    for node in graph.node:
        edges = [i for i in node.input if not i.startswith("^") or keep_order]
        node.ClearField("input")
        node.input.extend(i for i in edges if _name(i) not in gone)
    kept = [type(n).FromString(n.SerializeToString()) for n in graph.node if n.name not in gone]
    graph.ClearField("node")
    graph.node.extend(kept)
    live = _Nodes(kept).behind(t.op.name for t in function.outputs)
    feeds = [t for t in function.inputs if keep_order or t.op.name in live]
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    pruned = wrapped.prune([t.name for t in feeds], [t.name for t in function.outputs])
    captured = {inner.op.name: outer for outer, inner in function.graph.captures}

    def call(inputs: dict[str, tf.Tensor]) -> Any:
        known = {**inputs, **captured}
        results = pruned(*[known[t.op.name] for t in feeds])
        return tf.nest.pack_sequence_as(function.structured_outputs, list(results))

    return call
