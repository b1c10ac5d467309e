"""The error of every layer as custom node data of Model Explorer (ai-edge-model-explorer).

Checked with ai-edge-model-explorer 0.1.34 (adapter 0.2.1): its `GraphNodeData` and `NodeDataResult`
take what is written here and write the same again, with their defaults. Its .tflite adapter gives
every node the attribute `tensor_name` of each output, and the viewer looks a key of `results` up
among those names (a model's inputs are outputs of its node GraphInputs). It names a graph after the
subgraph, else after the signature; a file with `results` at the top, as written here, is laid on
the graph that is open, whatever its name is. Seen in the viewer: colors and values on a model
that tfq converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfq.errors import UsageError, unknown_option

READINGS = ("isolated", "accumulated")

# The page's scale on a light ground. A value takes the color of the first threshold at or above it;
# beyond the last it has none.
_SCALE = (
    (10.0, "#742311", "#ffffff"),
    (20.0, "#b6511c", "#ffffff"),
    (30.0, "#e08a33", "#1b1f23"),
    (40.0, "#f2bd63", "#1b1f23"),
    (50.0, "#f5e2ad", "#1b1f23"),
    (1000.0, "#dbe6ee", "#1b1f23"),
)


def node_data(report: Mapping[str, Any], model: str, reading: str | None = None) -> dict[str, Any]:
    """The layers' signal to quantization noise (dB; low is bad) for Model Explorer's graph.

    Args:
      report: as `schema.json` describes it.
      model: name of an analysed model.
      reading: "isolated" or "accumulated"; None takes the first that was measured.

    Returns:
      JSON-ready node data of one graph: `name`, `results` by name of the output tensor, and
      `thresholds` with colors. Values have two decimals; exact tensors and tensors without a
      reading have no number in dB and no entry.

    Raises:
      UsageError: the report has no layers of `model`, or there is no such reading.
    """
    analyses = {a["model"]: a for a in report["layers"]}
    if not analyses:
        raise UsageError("The report has no layers. Ask the evaluation for a layer analysis.")
    if model not in analyses:
        raise unknown_option("analysed model", model, analyses)
    if reading is not None and reading not in READINGS:
        raise unknown_option("reading", reading, READINGS)
    tensors = analyses[model]["tensors"]
    chosen = reading or next((r for r in READINGS if any(t[r] for t in tensors)), READINGS[0])
    return {
        "name": f"{model}: {chosen} SQNR (dB)",
        "results": {
            t["name"]: {"value": round(t[chosen]["sqnr_db"], 2)}
            for t in tensors
            if t[chosen] is not None and t[chosen]["sqnr_db"] is not None
        },
        "thresholds": [
            {"value": value, "bgColor": ground, "textColor": text} for value, ground, text in _SCALE
        ],
        # Decibels do not add up.
        "hideInChildrenStatsTable": True,
        "hideAggregatedStats": ["sum"],
    }
