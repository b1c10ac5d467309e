"""The op table is the one place that states what ops are: no other module keeps its own lists."""

import ast
import pathlib

import pytest

import tfq
from tfq.graph.model import OP_CODES
from tfq.graph.optable import effects

ROOT = pathlib.Path(tfq.__file__).parent

# Lists that match a pattern or say how an op is computed, not what it is.
OWN = {
    "equalize/channels.py": "through which ops scales of channels can be moved",
    "graph/options.py": "the schema's tables of options",
    "graph/optable.py": "the table",
    "graph/versions.py": "facts about releases",
    "keras/simulation/registry.py": "how each op is simulated",
    "plan/lookup.py": "the pattern of a mean or sum of squares",
    "plan/masks.py": "which ops make and carry masks",
    "plan/normalizations.py": "the pattern of a normalization",
    "targets/cpu/costs.py": "what XNNPACK calls its operators",
    "verify/input_constants.py": "the pattern of a preprocessing",
}
PATTERNS = ("rewrite/", "unroll/")


def lists(path: pathlib.Path) -> list[tuple[int, set[str]]]:
    """Line and op names of every set, tuple, list or dict literal."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Dict):
            parts = [k for k in node.keys if k is not None]
        elif isinstance(node, ast.Set | ast.Tuple | ast.List):
            parts = node.elts
        else:
            continue
        names = {p.value for p in parts if isinstance(p, ast.Constant) and p.value in OP_CODES}
        if names:
            found.append((node.lineno, names))
    return found


FILES = {str(p.relative_to(ROOT)): p for p in sorted(ROOT.rglob("*.py"))}


def test_ops_are_listed_in_the_table_alone():
    strange = [
        f"{name}:{line}: {sorted(names)}"
        for name, path in FILES.items()
        if name not in OWN and not name.startswith(PATTERNS)
        for line, names in lists(path)
        if len(names) >= 4
    ]
    assert strange == [], "state it as a column of tfq/graph/opspec.py, or say in OWN why not"


def test_what_has_state_is_listed_in_the_table_alone():
    """Patterns too ask `tfq.graph.effects`: seven such lists were seven different sets once."""
    state = {name for name in OP_CODES if not effects(name).repeatable}
    strange = [
        f"{name}:{line}: {sorted(names)}"
        for name, path in FILES.items()
        if name not in ("graph/optable.py", "graph/versions.py", "graph/options.py")
        for line, names in lists(path)
        if len(names & state) >= 2 and names != {"WHILE", "IF"}
    ]
    assert strange == []


def test_no_short_list_is_written_twice():
    found = {}
    for name, path in FILES.items():
        if name not in OWN and not name.startswith(PATTERNS):
            for line, names in lists(path):
                if len(names) == 3:
                    found.setdefault(frozenset(names), []).append(f"{name}:{line}")
    assert [places for places in found.values() if len(places) > 1] == []


@pytest.mark.parametrize("name", OWN)
def test_exceptions_are_still_needed(name):
    assert any(len(names) >= 4 for _, names in lists(FILES[name]))
