"""Whether what the user named is there: an option that matches nothing would do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tfq.errors import UsageError, nearest
from tfq.graph.model import Graph
from tfq.plan.scheme import LayerRule

_SHOWN = 4


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


def check_rules(graph: Graph, rules: Sequence[LayerRule], excluded: Sequence[str]) -> None:
    """Checks that every layer rule finds a layer.

    Args:
      graph: the prepared float graph; rules are searched in the names of its ops' first outputs.
      rules: what `Config.rules` holds.
      excluded: those of the regexes that came from `exclude`, for the message.

    Raises:
      UsageError: a rule matches no op.
    """
    names = [op.outputs[0].name for op in graph.ops if op.outputs]
    for rule in rules:
        if any(rule.matches(name) for name in names):
            continue
        what = "exclude" if rule.regex in excluded else "rules"
        raise UsageError(
            f"{what}: {rule.regex!r} matches no layer's output. {_some(rule.regex, names)}"
        )


def unused_allowances(graph: Graph, allowed: Sequence[str]) -> list[str]:
    """A warning for each entry of `allow_float` that names neither an op nor an output."""
    names = [op.outputs[0].name for op in graph.ops if op.outputs]
    ops = {n for op in graph.ops for n in (op.name, op.label)}
    return [
        f"allow_float: {pattern!r} matches no op and no output, so it allows nothing. "
        + _some(pattern, [*sorted(ops), *names])
        for pattern in allowed
        if pattern not in ops and not any(re.search(pattern, n) for n in names)
    ]


def _some(pattern: str, names: Sequence[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"There are {shown}{more}: --plan_out lists them.{nearest(pattern, names)}"
