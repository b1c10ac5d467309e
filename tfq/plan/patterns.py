"""Whether what the user named is there: an option that matches nothing would do nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tfq.errors import TfqError, UsageError, nearest
from tfq.graph.model import Graph, Op
from tfq.graph.optable import spec
from tfq.plan.scheme import Config, LayerRule

_SHOWN = 6


def strings(what: str, value: object) -> tuple[str, ...]:
    """`value` as a tuple of strings; one string stands for itself.

    Raises:
      UsageError: it is neither a string nor a sequence of strings.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise UsageError(f"{what} is a string or a list of strings. Received: {value!r}.")
    return tuple(value)


def check_regexes(what: str, patterns: Iterable[str]) -> None:
    """Raises UsageError for one that is no regular expression, or matches every name by mistake."""
    for pattern in patterns:
        if not pattern:
            raise UsageError(f"{what} has an empty entry, which would match everything.")
        try:
            re.compile(pattern)
        except re.error as e:
            raise UsageError(f"{what}: {pattern!r} is not a regular expression: {e}.") from None


def resolve(config: Config, graph: Graph, layers: Mapping[str, str]) -> Config:
    """Lets regexes that name Keras layers find outputs which the converter named otherwise.

    The last layer of a model is called "StatefulPartitionedCall:0" in the graph: `exclude="digit"`
    means it nonetheless. A regex that only finds it by its layer gets the output's name added.

    Args:
      config: as the user wrote it.
      graph: the prepared float graph.
      layers: Keras layers by tensor name (`Source.layer_names`).
    """
    names = {t.name: layers[t.name] for op in graph.ops for t in op.outputs if t.name in layers}

    def unseen(pattern: str) -> list[str]:
        return [
            f"^{re.escape(name)}$"
            for name, layer in names.items()
            if re.search(pattern, layer) and not re.search(pattern, name)
        ]

    rules = tuple(
        dataclasses.replace(r, regex="|".join([r.regex, *found]))
        if (found := unseen(r.regex))
        else r
        for r in config.rules
    )
    more = [found for pattern in config.allow_float for found in unseen(pattern)]
    return dataclasses.replace(
        config, rules=rules, allow_float=tuple(dict.fromkeys((*config.allow_float, *more)))
    )


def check_rules(
    graph: Graph, rules: Sequence[LayerRule], excluded: Sequence[str], layers: Mapping[str, str]
) -> None:
    """Checks that every layer rule finds a layer.

    Args:
      graph: the prepared float graph; rules are searched in the names of its ops' first outputs.
      rules: what `Config.rules` holds, resolved; one on weights alone has to find a layer that has
        some.
      excluded: those of the regexes that came from `exclude`, for the message.
      layers: Keras layers by tensor name, for the message.

    Raises:
      UsageError: a rule matches no op.
    """
    every = [op.key for op in graph.ops]
    weighted = [op.key for op in graph.ops if has_weights(op)]
    for rule in rules:
        narrow = rule.weight_bits is not None and rule.activations is None
        names = weighted if narrow else every
        if any(rule.matches(name) for name in names):
            continue
        kind = "int16" if rule.activations == "int16" else "weight_bits" if narrow else "rules"
        what = "exclude" if rule.regex in excluded else kind
        raise UsageError(
            f"{what}: {rule.regex!r} matches no layer's output"
            + (" of those that have weights. " if narrow else ". ")
            + _some(rule.regex, [layers.get(n) or n for n in names])
            + (nearest(rule.regex.lower(), ("auto", "none")) if kind == "int16" else "")
        )


def has_weights(op: Op) -> bool:
    """Whether an op has weights whose width can be chosen."""
    row = spec(op.name)
    if row is None:
        return False
    i = row.weights if row.learned is None else row.learned
    t = op.inputs[i] if i is not None and i < len(op.inputs) else None
    return t is not None and t.is_const


def unused_allowances(graph: Graph, allowed: Sequence[str], layers: Mapping[str, str]) -> list[str]:
    """A warning for each entry of `allow_float` that names neither an op nor an output."""
    names = [op.key for op in graph.ops]
    found = [*names, *(layers[n] for n in names if n in layers)]
    ops = {n for op in graph.ops for n in (op.name, op.label)}
    return [
        f"allow_float: {pattern!r} matches no op and no output, so it allows nothing. "
        + _some(pattern, [*sorted(ops), *(layers.get(n) or n for n in names)])
        for pattern in allowed
        if pattern not in ops and not any(re.search(pattern, n) for n in found)
    ]


def short_name(tensor: str, layers: Mapping[str, str]) -> str:
    """A tensor for a person: the first of the names that fusing joined, and its Keras layer."""
    first, _, _ = tensor.partition(";")
    layer = layers.get(tensor, "")
    return f"{first} (layer {layer})" if layer else first


@contextlib.contextmanager
def naming_layers(layers: Mapping[str, str]) -> Iterator[None]:
    """Adds to errors from the block the Keras layers of the tensors that they quote."""
    try:
        yield
    except TfqError as e:
        message = str(e)
        for name in sorted(layers, key=len, reverse=True):
            message = message.replace(repr(name), short_name(name, layers))
        raise type(e)(message) from None


def _some(pattern: str, names: Sequence[str]) -> str:
    kinds = list(dict.fromkeys(n.partition(";")[0] for n in names))
    shown = ", ".join(repr(n) for n in kinds[:_SHOWN])
    more = f" and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else ""
    return f"There are {shown}{more}; --plan_out lists all.{nearest(pattern, kinds)}"


def exclude_rules(patterns: Iterable[str]) -> tuple[LayerRule, ...]:
    """`--exclude` regexes as layer rules that keep their layers float."""
    return tuple(LayerRule(regex=p, activations="float32") for p in patterns)
