"""The page for users of tensorflow-model-optimization: its snippets run, its names exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[3] / "docs" / "from-tfmot.md"


def snippets():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_snippets_run_in_order(tmp_path):
    code = "\n".join(snippets()) + (
        "\nfor made in (result, old_result):\n"
        "    assert made.summary['model']['full_integer']\n"
        "print('all of it')\n"
    )
    script = tmp_path / "page.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "all of it"
    assert (tmp_path / "new.tflite").stat().st_size > 0


def test_every_tfq_name_on_the_page_exists():
    import importlib

    names = set(re.findall(r"\btfq(?:\.\w+)+", PAGE.read_text()))
    assert len(names) > 8
    for name in names:
        parts = name.split(".")
        found = importlib.import_module("tfq")
        for i, part in enumerate(parts[1:], 2):
            if not hasattr(found, part):
                importlib.import_module(".".join(parts[:i]))
            found = getattr(found, part)
