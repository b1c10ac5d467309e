"""Op coverage: small Keras/TF graphs through tfq, TensorFlow's converter and litert-quantizer.

For every graph: is the result fully integer (every tensor of every subgraph; "core" means that only
the model's own inputs and outputs are float), which ops stayed float, and the largest and mean
output error in LSB of the output's own grid. Every model is fed points of its own input grid, and
the float model the same real values, so that no converter is charged for rounding the input. Data
are the calibration samples. Integer and bool outputs count their difference as LSB.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import tempfile
from typing import Any

import coverage_graphs
import harness
import litert_model
import models
import stats

TOLERANCE_LSB = 2.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One graph through one converter.

    Attributes:
      integer: "yes" (fully integer), "core" (float only at the model's inputs or outputs), "no", or
        "" when there is no model.
      float_ops: count by op name of the ops that compute in float.
      max_lsb, mean_lsb: output error; None when the model has no integer output or did not run.
      error: what the converter or the interpreter said.
    """

    integer: str = ""
    float_ops: dict[str, int] = dataclasses.field(default_factory=dict)
    max_lsb: float | None = None
    mean_lsb: float | None = None
    error: str = ""

    def __str__(self) -> str:
        if not self.integer:
            return self.error[:60] or "failed"
        if self.error:
            return f"{self.integer}, {self.error[:50]}"
        islands = " ".join(f"{k}x{n}" if n > 1 else k for k, n in self.float_ops.items())
        error = "" if self.max_lsb is None else f" {self.max_lsb:.1f}/{self.mean_lsb:.2f}"
        return f"{self.integer}{error}" + (f" ({islands})" if islands else "")


def _row(kinds: litert_model.Kinds, judged: dict[str, Any]) -> Row:
    integer = "yes" if kinds.fully_integer else "core" if kinds.integer_inside else "no"
    if not judged["ok"]:
        return Row(integer, dict(kinds.float_ops), error=f"does not run: {judged['error']}")
    return Row(integer, dict(kinds.float_ops), judged["max_lsb"], judged["mean_lsb"])


def run(
    converters: list[str], names: list[str], samples: int, settings: dict[str, Any]
) -> dict[str, dict[str, Row]]:
    """Rows by graph and converter; `settings` are tfq's."""
    prepared = {p.name.split("/")[1]: p for p in models.prepare_coverage()}
    rows: dict[str, dict[str, Row]] = {name: {} for name in names}
    jumping = {g.name for g in coverage_graphs.GRAPHS if g.jumps}
    with tempfile.TemporaryDirectory() as work:
        for converter in converters:
            todo = [
                {
                    "id": name,
                    "action": "convert",
                    "model": str(prepared[name].float_model),
                    "saved_model": str(prepared[name].saved_model),
                    "data": str(prepared[name].calibration),
                    "out": str(pathlib.Path(work, f"{converter}-{name}.tflite")),
                    **({"settings": settings} if converter == "tfq" else {}),
                }
                for name in names
            ]
            answers = harness.run_jobs(converter, todo, timeout=120)
            made = [job for job in todo if answers[job["id"]]["ok"]]
            kinds = {job["id"]: litert_model.kinds(pathlib.Path(job["out"])) for job in made}
            judged = harness.run_jobs(
                "judge",
                [
                    {
                        **job,
                        "action": "errors",
                        "samples": samples,
                        "data": str(prepared[job["id"]].test),
                        "jumps": job["id"] in jumping,
                    }
                    for job in made
                ],
            )
            for name in names:
                if name in judged:
                    rows[name][converter] = _row(kinds[name], judged[name])
                else:
                    rows[name][converter] = Row(error=answers[name]["error"])
    return rows


def totals(rows: dict[str, dict[str, Row]], converter: str) -> dict[str, Any]:
    """The counts that the last lines of the table give for one converter."""
    of = [r[converter] for r in rows.values()]
    crashes = sum(r.error.startswith("process") for r in of)
    errors = [r.max_lsb for r in of if r.max_lsb is not None and r.integer != "no"]
    return {
        "graphs": len(of),
        "fully integer": sum(r.integer == "yes" for r in of),
        "integer but for inputs and outputs": sum(r.integer in ("yes", "core") for r in of),
        f"of these within {TOLERANCE_LSB:g} LSB": sum(e <= TOLERANCE_LSB for e in errors),
        "float islands": sum(r.integer == "no" for r in of),
        "refused with an error": sum(not r.integer for r in of) - crashes,
        "crashed": crashes,
        "emitted but does not run": sum(bool(r.integer and r.error) for r in of),
        "median of the largest errors, LSB": round(statistics.median(errors), 2) if errors else "-",
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--only", help="graph names, separated by commas")
    parser.add_argument("--samples", type=int, default=32, help="samples compared (default 32)")
    parser.add_argument("--settings", default="{}", help="JSON of convert_model's keywords for tfq")
    flags = harness.start(parser)
    names = [g.name for g in coverage_graphs.GRAPHS]
    if flags.only:
        unknown = set(flags.only.split(",")) - set(names)
        if unknown:
            parser.error(f"unknown graphs: {', '.join(sorted(unknown))}")
        names = flags.only.split(",")
    elif flags.quick:
        names = names[::8]
    rows = run(flags.converters, names, flags.samples, json.loads(flags.settings))
    family = {g.name: g.family for g in coverage_graphs.GRAPHS}
    print("Cells: fully integer? largest/mean error in LSB (ops left float)\n")
    print(
        stats.table(
            ["family", "graph", *flags.converters],
            [[family[n], n, *(rows[n][c] for c in flags.converters)] for n in names],
        )
    )
    sums = {c: totals(rows, c) for c in flags.converters}
    keys = list(next(iter(sums.values())))
    print("\n" + stats.table(
        ["total", *flags.converters], [[k, *(sums[c][k] for c in sums)] for k in keys]
    ))  # fmt: skip
    harness.write_json(
        flags,
        {
            "rows": {n: {c: dataclasses.asdict(r) for c, r in rows[n].items()} for n in rows},
            "totals": sums,
        },
    )


if __name__ == "__main__":
    main()
