"""Building the page of a 500-layer model, and opening it in Chromium.

The report is a real one: a float model of 500 layers, converted to int8 and evaluated with layer
analysis. Opening is counted from the navigation: until the document is complete, until the first
frame with content, and until the second frame after loading, when all of it has been drawn. Needs
playwright and Debian's chromium; every round is a new browser context on the file.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import tempfile

import harness
import numpy as np
import stats

LAYERS = 500
BUILD_GOAL, OPEN_GOAL = 3.0, 2.0  # Seconds.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_TIMES = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await frame();
  await frame();
  const drawn = performance.now();
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return {
    complete: performance.getEntriesByType("navigation")[0].domComplete,
    first: paint ? paint.startTime : drawn,
    drawn,
  };
}"""


def _open(path: pathlib.Path, rounds: int) -> dict[str, list[float]]:
    """Seconds until the document is complete, the first frame, and the frame after loading."""
    from playwright import sync_api

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Needs Chromium: apt-get install chromium")
    found: dict[str, list[float]] = {"complete": [], "first": [], "drawn": []}
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=_FLAGS)
        for _ in range(rounds):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            tab = context.new_page()
            tab.goto(path.as_uri())
            if not tab.locator("table.layers > tbody > tr.row").count():
                raise SystemExit("The page has no table of layers.")
            for name, ms in tab.evaluate(_TIMES).items():
                found[name].append(ms / 1000)
            context.close()
        browser.close()
    return found


def _measure(flags: argparse.Namespace) -> tuple[dict, dict[str, list[float]]]:
    rounds = 1 if flags.quick else flags.rounds
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "report.html")
        job = {"action": "page", "layers": flags.layers, "rounds": rounds, "out": str(path)}
        made = harness.run_job("tfq", job)
        if not made["ok"]:
            raise SystemExit(made["error"])
        return made, _open(path, rounds)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5; quick: 1)")
    parser.add_argument("--layers", type=int, default=LAYERS, help=f"layers (default {LAYERS})")
    flags = harness.start(parser)
    made, opened = _measure(flags)
    # The last is asked for only after loading: it is an upper bound.
    measured = {
        "building the page": (made["seconds"], BUILD_GOAL),
        "opening: document complete": (opened["complete"], OPEN_GOAL),
        "opening: first frame": (opened["first"], OPEN_GOAL),
        "opening: all drawn": (opened["drawn"], OPEN_GOAL),
    }
    rows = [
        [name, f"{np.median(s):.3f}", f"{min(s):.3f}-{max(s):.3f}", f"< {goal:g}",
         "reached" if np.median(s) < goal else "missed"]
        for name, (s, goal) in measured.items()
    ]  # fmt: skip
    header = [f"{made['tensors']} tensors", "s (median)", "range", "goal", "verdict"]
    print(stats.table(header, rows))
    print(f"\n{made['bytes']:,} bytes; {made['histograms']} tensors have a histogram")
    harness.write_json(flags, {"build": made, "open": opened})


if __name__ == "__main__":
    main()
