"""docs/ops.md says what the op table says."""

import runpy
from pathlib import Path

from tfq.graph.optable import OP_TABLE

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date():
    made = runpy.run_path(str(ROOT / "tools" / "make_ops_page.py"))["page"]()
    assert (ROOT / "docs" / "ops.md").read_text("utf-8") == made, "run tools/make_ops_page.py"


def test_every_op_has_a_row_with_its_versions():
    page = (ROOT / "docs" / "ops.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [r.split(" | ")[0].removeprefix("| ") for r in rows] == sorted(OP_TABLE)
    assert "| CONV_2D | weighted | 1 | 3 | 4 |" in page
