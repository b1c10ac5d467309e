"""A benchmark as lines for a terminal."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

from tfq.report.digits import fixed, percent, short
from tfq.targets import Figure, Measurement, OpCost

_WIDTH = 80
_INDENT = 12
_ORDER = ("steady", "first", "init", "memory")  # Of figures; others follow.
_REASONS = 6  # Of ops off the fast path.
_SLOWEST = 3
_APART = 4  # Outputs whose difference is shown.


def console(measurements: Sequence[Measurement]) -> list[str]:
    """For each target a table of the models, and below it what each ran on.

    Args:
      measurements: those of one target stand together.
    """
    lines: list[str] = []
    for target, group in itertools.groupby(measurements, key=lambda m: m.target):
        rows = list(group)
        lines += ([""] if lines else []) + _row("target", f"{target}: {_host(rows[0])}")
        lines += ["", *_table(rows), ""]
        for m in rows:
            lines += _about(m, several=len(rows) > 1)
        lines += _warnings(rows)
    return lines


def _host(m: Measurement) -> str:
    """What the figures are of, and how they came about."""
    parts = [str(m.fingerprint[k]) for k in ("device", "processor") if m.fingerprint.get(k)]
    threads = m.asked.threads
    parts += [f"{threads} thread{'s' * (threads != 1)}", f"{m.asked.kernels} kernels"]
    evidence = dict.fromkeys(f.evidence.value for f in m.figures.values())
    return ", ".join(parts) + f"; {', '.join(evidence)}"


def _table(rows: Sequence[Measurement]) -> list[str]:
    names = list(dict.fromkeys(name for m in rows for name in m.figures))
    order = sorted(names, key=lambda n: _ORDER.index(n) if n in _ORDER else len(_ORDER))
    heads = ["model", *order, "file"]
    cells = []
    for m in rows:
        cells.append([_printable(m.model), *(_cell(m.figures.get(n)) for n in order)])
        cells[-1].append(_quantity(m.size, "bytes"))
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    room = _WIDTH - 2 - sum(widths[1:]) - 2 * len(widths[1:])
    widths[0] = max(12, min(widths[0], room))
    lines = []
    for row in [heads, *cells]:
        first = row[0] if len(row[0]) <= widths[0] else f"...{row[0][3 - widths[0] :]}"
        rest = (f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([f"  {first:<{widths[0]}}", *rest]))
    return lines


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    text = _quantity(figure.median, figure.unit)
    if figure.count > 1:
        text += f" ({_number(figure.low, figure)}-{_number(figure.high, figure)})"
    return text


def _number(value: float, figure: Figure) -> str:
    """In the unit that the median is shown in."""
    divisor, _ = _scaled(figure.median, figure.unit)
    return short(value / divisor)


def _scaled(value: float, unit: str) -> tuple[float, str]:
    if unit == "us":
        return (1.0, "us") if value < 1e3 else (1e3, "ms") if value < 1e6 else (1e6, "s")
    if unit == "bytes":
        return (1e3, "KB") if value < 1e6 else (1e6, "MB")
    return (1.0, "") if value < 1e6 else (1e6, "M")


def _quantity(value: float, unit: str) -> str:
    divisor, shown = _scaled(value, unit)
    text = fixed(value / divisor, 1 if shown == "KB" else 2) if unit == "bytes" else ""
    return f"{text or short(value / divisor)} {shown}".strip()


def _about(m: Measurement, *, several: bool) -> list[str]:
    start = f"{m.model}: " if several else ""
    p = m.placement
    text = p.refusal or f"{p.fast} of {len(p.ops)} ops on the fast path"
    if p.fast:
        where = dict.fromkeys(op.where for op in p.ops if op.fast)
        stretches = f"{p.partitions} partition{'s' * (p.partitions != 1)}"
        text = f"{p.fast} of {len(p.ops)} ops on {', '.join(where)}, in {stretches}"
    lines = _row("ops", start + text)
    off = list(p.off().items())
    for (op, why), count in off[:_REASONS]:
        lines += _row("", f"{op}{f' {count}' if count > 1 else ''}: {why or 'not said'}")
    if len(off) > _REASONS:
        lines += _row("", f"and {len(off) - _REASONS} more")
    if m.ops:
        slowest = sorted(m.ops, key=lambda o: -o.cost.median)[:_SLOWEST]
        total = sum(o.cost.median for o in m.ops) or 1.0
        texts = [f"{_op(o)} {_cost(o, total)}" for o in slowest]
        lines += _row("slowest", f"{start}{', '.join(texts)}")
    for d in sorted(m.differences, key=lambda d: -d.most)[:_APART]:
        apart = f"at most {short(d.most)}{f' {d.unit}' if d.unit else ''}"
        said = f"{apart} from the reference kernels', {percent(d.share)} of the values"
        said = said if d.share else "equal to the reference kernels'"
        lines += _row("outputs", f"{start}{d.output}: {said}")
    return lines


def _op(cost: OpCost) -> str:
    return f"{cost.op} {cost.output}".strip()


def _cost(cost: OpCost, total: float) -> str:
    value = cost.cost
    return f"{_quantity(value.median, value.unit)} ({percent(value.median / total)})"


def _warnings(rows: Sequence[Measurement]) -> list[str]:
    """Each once, with the models that it is about where those are not all."""
    about: dict[str, list[str]] = {}
    for m in rows:
        for w in m.warnings:
            about.setdefault(w, []).append(m.model)
    return [
        line
        for w, names in about.items()
        for line in _row("WARNING", w if len(names) == len(rows) else f"{', '.join(names)}: {w}")
    ]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        _printable(text),
        _WIDTH,
        initial_indent=f"  {name:<{_INDENT - 2}}",
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
    )
