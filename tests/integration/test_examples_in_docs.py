"""docs/training.md: its snippets run in order, what it says they print is true, its names exist."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "training.md"

CHECKS = """
assert result.summary["model"]["full_integer"]
assert result.summary["plan"]["wider_weights"] == {}
assert integers and same.mean() > 0.99
assert tfq.keras.pruning_report(pruned)["sparsity"] > 0.69
assert report["kind"] == "tflite" and report["sparsity"] >= 0.69
assert smaller.count_params() < 0.6 * float_model.count_params()
head = chosen.get_layer("head_layer" if "head_layer" in [n.name for n in chosen.layers] else "head")
assert type(head).__name__ == "Dense"
assert chosen.get_layer("stem").weight_quantizer.bits == 8
assert chosen.get_layer("conv").weight_quantizer.bits == 4
print("all of it")
"""


def snippets():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_snippets_run_in_order(tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(snippets()) + CHECKS)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[-1] == "all of it"
    for shown in re.findall(r"^ *print\(.*\)  # ([^:\n]+)", PAGE.read_text("utf-8"), re.MULTILINE):
        assert shown in lines
    assert {p.name for p in tmp_path.iterdir()} == {"page.py", "model.tflite", "trained.keras"}


def test_schemes_and_quantizers_on_the_page_are_those_there_are():
    from tfq.keras import quantizers
    from tfq.keras.rules import SCHEMES

    page = PAGE.read_text("utf-8")
    cells = [row.split("|")[1] for row in page.splitlines() if row.startswith("| ")]
    named = {name for cell in cells for name in re.findall(r'`"(\w+)"`', cell)}
    names = {*SCHEMES, *quantizers.WEIGHT_QUANTIZERS, *quantizers.ACTIVATION_QUANTIZERS}
    assert named == names
    objects = re.findall(r"`(\w+)\(([^()`]*)\)`", page[page.index("### Quantizers") :])
    checked = 0
    for name, arguments in objects:
        cls = getattr(quantizers, name, None)
        if cls is None:
            continue
        defaults = cls().get_config()
        known = inspect.signature(cls).parameters
        for key, value in re.findall(r"(\w+)=([\w.]+)", arguments):
            assert key in known, (name, key)
            assert repr(defaults[key]) == value, (name, key)
            checked += 1
    assert checked >= 8


def test_scripts_and_pages_that_are_named_exist():
    page = PAGE.read_text("utf-8")
    for name in re.findall(r"`(\w+\.py)`", page):
        assert (ROOT / "examples" / "training" / name).exists()
    for name in re.findall(r"\]\(([\w-]+\.md)\)", page):
        assert (ROOT / "docs" / name).exists()
