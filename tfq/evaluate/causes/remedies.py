"""Remedies that tfq has: an option for the whole model, or 16 bits for some layers.

Flags are added to those that the file was made with, so that what it has is not said again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfq.evaluate.causes.finding import Remedy
from tfq.evaluate.causes.view import View, bits, enters
from tfq.evaluate.figures import TensorFigures

# A rule that names more layers than this is not one to paste: the whole model is meant.
_MOST = 20


def option(name: str, value: str, text: str) -> Remedy:
    """One option of the conversion."""
    return Remedy(text, f"--{name}={value}", f"tfq.convert_model(..., {name}={value!r})")


def wider(
    view: View, tensors: Iterable[TensorFigures], text: str, *, output: bool = False
) -> Remedy:
    """16-bit activations for the layers of these tensors.

    Args:
      view: the model.
      tensors: model inputs among them are passed over.
      text: the sentence.
      output: whether one is the model's output, which is 8 bits wide unless asked for wider.
    """
    asked = [t for t in tensors if not enters(t)]
    missing = [t for t in asked if not _has_rule(view, t)]
    output = output and view.option("output_type") != "int16"
    if all(bits(t) > 8 for t in missing):
        if output:
            return option("output_type", "int16", "Let the model's output have 16 bits, too.")
        return done("The layers concerned have 16-bit activations already")
    names = dict.fromkeys(t.layer or t.name for t in missing)
    return wider_layers(tuple(names), text, output=output, kept=view.rules)


def wider_around(view: View, t: TensorFigures, text: str) -> Remedy:
    """16-bit activations for a tensor and what reads it, or 8 bits come back right behind it.

    What shares its grid is among them: an op that only moves values keeps the grid of its inputs.
    """
    return wider(view, (*view.joined(t), *view.users(t)), text, output=view.is_output(t))


def wider_until_even(view: View, t: TensorFigures, text: str) -> Remedy:
    """The same, and further on while the channels stay as different in size."""
    joined = view.joined(t)
    output = any(view.is_output(j) for j in joined)
    return wider(view, (*joined, *view.users_until_even(t)), text, output=output)


def wider_layers(
    layers: Sequence[str],
    text: str,
    *,
    output: bool = False,
    kept: Sequence[Mapping[str, Any]] = (),
) -> Remedy:
    """16-bit activations for layers, or for outputs that came from none, by name.

    Args:
      layers: their names.
      text: the sentence.
      output: whether the model's output is asked for in 16 bits, too.
      kept: rules that the file was made with, as `Config.as_dict` has them: a call names them, too.
    """
    if not 0 < len(layers) <= _MOST:
        return option("scheme", "int16x8", text)
    regex = pattern(layers)
    # The first that matches wins.
    rules = ", ".join(_source(r) for r in ({"regex": regex, "activations": "int16"}, *kept))
    return Remedy(
        text,
        f"--int16={shlex.quote(regex)}" + (" --output_type=int16" if output else ""),
        f"tfq.convert_model(..., rules=[{rules}]" + (", output_type='int16')" if output else ")"),
        tuple(layers),
        output,
        tuple(kept),
    )


def done(what: str) -> Remedy:
    """Nothing to convert otherwise."""
    return Remedy(f"{what}: what is left, only training with quantization in the loop can mend.")


def _has_rule(view: View, t: TensorFigures) -> bool:
    """Whether the file was made with 16 bits for this tensor."""
    names = [name for name in (t.layer, t.name) if name]
    found = (
        r["activations"]
        for r in view.rules
        if r.get("activations") and any(re.search(r["regex"], name) for name in names)
    )
    return next(found, None) == "int16"


def _source(rule: Mapping[str, Any]) -> str:
    """A rule as Python writes it."""
    given = ", ".join(f"{k}={v!r}" for k, v in rule.items() if v is not None)
    return f"tfq.LayerRule({given})"


def pattern(layers: Sequence[str]) -> str:
    """The regular expression that finds exactly these layers or outputs.

    Both `LayerRule.regex` and `--int16` are searched in the names of outputs and of layers.
    """
    # Flags take several patterns with commas between them.
    names = [re.escape(name).replace(",", r"\x2c") for name in layers]
    return f"^{names[0]}$" if len(names) == 1 else f"^({'|'.join(names)})$"
