"""Remedies that tfq has: an option for the whole model, or 16 bits for some layers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from tfq.evaluate.figures import TensorFigures
from tfq.evaluate.judge.finding import Remedy

# A rule that names more layers than this is not one to paste: the whole model is meant.
_MOST = 20


def option(name: str, value: str, text: str) -> Remedy:
    """One option of the conversion."""
    return Remedy(text, f"--{name}={value}", f"tfq.convert_model(..., {name}={value!r})")


def wider(tensors: Iterable[TensorFigures], text: str) -> Remedy:
    """16-bit activations for the layers of these tensors."""
    names = dict.fromkeys(t.layer or t.name for t in tensors if t.op != "INPUT")
    return wider_layers(tuple(names), text)


def wider_layers(layers: Sequence[str], text: str) -> Remedy:
    """16-bit activations for layers, or for outputs that came from none, by name."""
    if not 0 < len(layers) <= _MOST:
        return option("scheme", "int16x8", text)
    regex = pattern(layers)
    rule = f"tfq.LayerRule(regex={regex!r}, activations='int16')"
    return Remedy(
        text,
        f"--int16={shlex.quote(regex)}",
        f"tfq.convert_model(..., rules=[{rule}])",
        tuple(layers),
    )


def pattern(layers: Sequence[str]) -> str:
    """The regular expression that finds exactly these layers or outputs.

    Both `LayerRule.regex` and `--int16` are searched in the names of outputs and of layers.
    """
    # Flags take several patterns with commas between them.
    names = [re.escape(name).replace(",", r"\x2c") for name in layers]
    return f"^{names[0]}$" if len(names) == 1 else f"^({'|'.join(names)})$"
