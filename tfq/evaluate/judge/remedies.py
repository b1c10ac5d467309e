"""Remedies that tfq has: an option for the whole model, or 16 bits for some layers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from tfq.evaluate.figures import TensorFigures
from tfq.evaluate.judge.finding import Remedy
from tfq.evaluate.judge.view import View

# A rule that names more layers than this is not one to paste: the whole model is meant.
_MOST = 20


def option(name: str, value: str, text: str) -> Remedy:
    """One option of the conversion."""
    return Remedy(text, f"--{name}={value}", f"tfq.convert_model(..., {name}={value!r})")


def wider(tensors: Iterable[TensorFigures], text: str, *, output: bool = False) -> Remedy:
    """16-bit activations for the layers of these tensors.

    Args:
      tensors: model inputs among them are passed over.
      text: the sentence.
      output: whether one is the model's output, which is 8 bits wide unless asked for wider.
    """
    names = dict.fromkeys(t.layer or t.name for t in tensors if t.op != "INPUT")
    return wider_layers(tuple(names), text, output=output)


def wider_around(view: View, t: TensorFigures, text: str) -> Remedy:
    """16-bit activations for a tensor and what reads it, or 8 bits come back right behind it."""
    return wider((t, *view.users(t)), text, output=view.is_output(t))


def wider_layers(layers: Sequence[str], text: str, *, output: bool = False) -> Remedy:
    """16-bit activations for layers, or for outputs that came from none, by name."""
    if not 0 < len(layers) <= _MOST:
        return option("scheme", "int16x8", text)
    regex = pattern(layers)
    rule = f"tfq.LayerRule(regex={regex!r}, activations='int16')"
    return Remedy(
        text,
        f"--int16={shlex.quote(regex)}" + (" --output_type=int16" if output else ""),
        f"tfq.convert_model(..., rules=[{rule}]" + (", output_type='int16')" if output else ")"),
        tuple(layers),
        output,
    )


def pattern(layers: Sequence[str]) -> str:
    """The regular expression that finds exactly these layers or outputs.

    Both `LayerRule.regex` and `--int16` are searched in the names of outputs and of layers.
    """
    # Flags take several patterns with commas between them.
    names = [re.escape(name).replace(",", r"\x2c") for name in layers]
    return f"^{names[0]}$" if len(names) == 1 else f"^({'|'.join(names)})$"
