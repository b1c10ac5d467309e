"""A report small enough for a page: of very large ones, what a reader misses least is left out.

In this order, and only as far as needed: histograms get half their bins; those of the layers with
the least error go; long names keep their ends, and figures four digits. The JSON report has all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_BINS = 32  # Fewer show no shape.
_SHORT_DIGITS = 4
_LONGEST_NAME = 80
_SPARE = 200  # Bytes for what `reduced` says.


def dump(value: Any) -> str:
    """ASCII JSON with sorted keys that cannot end its <script>: no `<` is in it.

    Raises:
      ValueError: a number is not finite.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def rounded(value: Any, digits: int) -> Any:
    """The same data, floats with so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(v, digits) for v in value]
    return value


def fit(report: Mapping[str, Any], room: int) -> dict[str, Any]:
    """The report in at most `room` bytes of `dump`, if leaving out the above can do that.

    Args:
      report: as `schema.json` describes it.
      room: bytes.

    Returns:
      The report itself, or one with the key `reduced`: `bins` of a histogram at most, `histograms`
      (of how many of the worst layers; None: of all), `names` (whether long ones were cut).
    """
    if len(dump(report)) <= room:
        return dict(report)
    room -= _SPARE
    merged = _with_tensors(report, [_fewer_bins(t) for t in _tensors(report)])
    note: dict[str, Any] = {"bins": _BINS, "histograms": None, "names": False}
    if len(dump(merged)) <= room:
        return {**merged, "reduced": note}
    bare = [_without_histograms(t) for t in _tensors(merged)]
    found = _with_tensors(merged, bare)
    left = room - len(dump(found))
    if left < 0:
        note["names"] = True
        found = _short(found)
        left = room - len(dump(found))
    full = _tensors(merged)
    kept = 0
    tensors = _tensors(found)
    for i in sorted(range(len(full)), key=lambda i: _rank(full[i])):
        if full[i]["histogram"] is None:
            continue
        drawn = _histograms_of(full[i], tensors[i])
        left -= len(dump(drawn)) - len(dump(tensors[i]))
        if left < 0:
            break
        tensors[i] = drawn
        kept += 1
    return {**_with_tensors(found, tensors), "reduced": {**note, "histograms": kept}}


def _tensors(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [t for a in report["layers"] for t in a["tensors"]]


def _with_tensors(
    report: Mapping[str, Any], tensors: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    every = iter(tensors)
    layers = [{**a, "tensors": [next(every) for _ in a["tensors"]]} for a in report["layers"]]
    return {**report, "layers": layers}


def _rank(tensor: Mapping[str, Any]) -> float:
    """Worst first; the reading is the one that the page ranks by where it has both."""
    reading = tensor["isolated"] or tensor["accumulated"]
    return float("inf") if not reading or reading["sqnr_db"] is None else reading["sqnr_db"]


def _fewer_bins(tensor: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(tensor)
    if found["histogram"]:
        found["histogram"] = merge_bins(found["histogram"])
    if found["weights"] and found["weights"]["histogram"]:
        weights = found["weights"]
        found["weights"] = {**weights, "histogram": merge_bins(weights["histogram"])}
    return found


def _without_histograms(tensor: Mapping[str, Any]) -> dict[str, Any]:
    weights = tensor["weights"] and {**tensor["weights"], "histogram": None}
    return {**tensor, "histogram": None, "weights": weights}


def _histograms_of(full: Mapping[str, Any], tensor: Mapping[str, Any]) -> dict[str, Any]:
    weights = tensor["weights"] and {**tensor["weights"], "histogram": full["weights"]["histogram"]}
    return {**tensor, "histogram": full["histogram"], "weights": weights}


def _short(report: Mapping[str, Any]) -> dict[str, Any]:
    def end(name: str | None) -> str | None:
        # Of a path the end tells most. Findings name tensors: they are cut in the same way.
        return name if name is None or len(name) <= _LONGEST_NAME else "..." + name[-_LONGEST_NAME:]

    def cut(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
        return {**row, **{key: end(row[key]) for key in keys}}

    tensors = [
        {**cut(t, "name", "layer"), "weights": t["weights"] and cut(t["weights"], "name")}
        for t in _tensors(report)
    ]
    found = _with_tensors(report, [rounded(t, _SHORT_DIGITS) for t in tensors])
    verdicts = [cut(v, "tensor", "layer") for v in report["verdicts"]]
    for v in verdicts:
        v |= {key: [end(name) for name in v[key]] for key in ("tensors", "layers") if key in v}
    return {**found, "verdicts": verdicts}


def merge_bins(histogram: Mapping[str, Any], bins: int = _BINS) -> dict[str, Any]:
    """Adds neighbours until there are at most `bins`; the last may reach past the old end."""
    n = len(histogram["float"])
    merge = -(-n // bins)
    width = (histogram["high"] - histogram["low"]) / n

    def merged(counts: Sequence[int] | None) -> list[int] | None:
        if counts is None:
            return None
        return [sum(counts[i : i + merge]) for i in range(0, n, merge)]

    return {
        "low": histogram["low"],
        "high": histogram["low"] + -(-n // merge) * merge * width,
        "float": merged(histogram["float"]),
        "quantized": merged(histogram["quantized"]),
    }
