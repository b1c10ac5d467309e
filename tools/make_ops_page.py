"""Writes docs/ops.md from the op table: `python tools/make_ops_page.py`.

`tests/tools/test_make_ops_page.py` fails when the page is older than the table.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import tfq.rewrite
from tfq.graph.optable import OP_TABLE, Kind, OpSpec

PAGE = Path(__file__).resolve().parents[1] / "docs" / "ops.md"

_HEAD = """# Ops

Made by `tools/make_ops_page.py` from `tfq/graph/optable.py`; do not edit.

{total} builtin ops: {integer} with an integer kernel that is right, {free} that move shapes,
booleans or control and hold no quantized tensor, {float_only} whose kernels compute in float only.
Of the last, tfq makes those marked "table" a lookup table where they are a function of one int8 or
int16 tensor, and says those marked "rewritten" with other ops; the rest stop a full-integer run and
are named.

- **Grids**: *weighted*: constant weights of 8 bits or fewer, a bias on input scale times weight
  scale. *own*: every tensor has its own scale. *same*: input and output share one. *fixed*: the
  kernel fixes the output's. *integer_out*: quantized in, integers or booleans out. *structural*:
  none.
- **int8**, **int16**: the lowest op version whose kernel takes such activations; "-": none is
  right.
- **weights**: the types of constant weights that the kernels read rightly. 4- and 2-bit weights
  are stored in the narrowest of at least so many bits; a wider one holds the same integers.
- Custom and Flex ops have no integer kernel; they stop a full-integer run.

| op | grids | float | int8 | int16 | weights | otherwise | note |
|---|---|---|---|---|---|---|---|
"""


def rewritten() -> dict[str, set[str]]:
    """Op -> the rewrites that say it with other ops."""
    found: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(tfq.rewrite.__path__):
        if not module.name.startswith(("replace_", "expand_")):
            continue
        loaded = importlib.import_module(f"tfq.rewrite.{module.name}")
        rule = getattr(loaded, "RULE", None)
        for op in rule.roots if rule is not None else ():
            found.setdefault(op, set()).add(module.name)
    return found


def row(name: str, spec: OpSpec, rewrites: set[str]) -> str:
    structural = spec.kind is Kind.STRUCTURAL

    def version(dtype: str) -> str:
        return "" if structural else str(spec.versions.get(dtype, "-"))

    other = []
    if not structural and not {"int8", "int16"} <= spec.dtypes:
        if rewrites:
            other.append("rewritten")
        if spec.elementwise:
            other.append("table")
    note = spec.note
    if not spec.reference and spec.dtypes:
        note = f"{note} Not in the reference kernels, or wrong there.".strip()
    cells = [
        name,
        spec.kind.value,
        version("float32"),
        version("int8"),
        version("int16"),
        weights(spec),
        ", ".join(other),
        note.replace("|", "\\|"),
    ]
    return "| " + " | ".join(cells) + " |"


def weights(spec: OpSpec) -> str:
    """Types of weights, said once where all activations have the same."""
    by_types: dict[tuple[str, ...], list[str]] = {}
    for activations, types in spec.weight_types.items():
        by_types.setdefault(types, []).append(activations.removesuffix("32"))
    if len(by_types) == 1:
        return " ".join(next(iter(by_types)))
    return "; ".join(f"{', '.join(a)}: {' '.join(types)}" for types, a in by_types.items())


def page() -> str:
    rewrites = rewritten()
    kinds = [spec.kind for spec in OP_TABLE.values()]
    free, float_only = kinds.count(Kind.STRUCTURAL), kinds.count(Kind.FLOAT_ONLY)
    head = _HEAD.format(
        total=len(kinds),
        integer=len(kinds) - free - float_only,
        free=free,
        float_only=float_only,
    )
    rows = [row(name, OP_TABLE[name], rewrites.get(name, set())) for name in sorted(OP_TABLE)]
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
