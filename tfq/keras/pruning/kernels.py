"""Which variables pruning and clustering work on, and the rules that choose among them.

The kernels of convolutions, dense, einsum and recurrent layers; those of depthwise convolutions and
embedding tables only where a rule names them, since they are small or read row by row. Biases and
normalizations never. Layers inside other layers are found too, and quantized ones.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfq.errors import UsageError, unknown_option

_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel", "depthwise_kernel", "embeddings")


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """One weight variable and how it reads as a matrix product.

    Attributes:
      name: the variable's path in the model without its own name, unique in the model.
      layer: the layer that owns it.
      variable: the Keras variable.
      default: False where only a rule takes it.
      order: the variable's axes sorted into positions, inputs, outputs.
      positions, inputs: how many axes of `order` are of the first and of the second kind.
    """

    name: str
    layer: Any
    variable: Any
    default: bool
    order: tuple[int, ...]
    positions: int
    inputs: int

    def values(self) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(self.variable.value), np.float32)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """`values` as [positions, inputs, outputs]; inputs are what one output sums up."""
        shape = [values.shape[a] for a in self.order]
        p, i = self.positions, self.positions + self.inputs
        sizes = [int(np.prod(part)) for part in (shape[:p], shape[p:i], shape[i:])]
        return values.transpose(self.order).reshape(sizes)

    def restore(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse of `matrix`: an array in the variable's own shape."""
        shape = [int(self.variable.shape[a]) for a in self.order]
        return matrix.reshape(shape).transpose(np.argsort(self.order))


def find_kernels(model: Any) -> list[Kernel]:
    """The kernels of all of the model's layers, in the order of the layers.

    Raises:
      UsageError: `model` is no Keras 3 model, or it has no variables yet.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"This works on Keras 3 models. Received: {type(model).__name__}.")
    if not model.built:
        raise UsageError(
            f"The model {model.name!r} is not built, so it has no weights yet. Call it on a batch, "
            "or give it a keras.Input."
        )
    kernels: list[Kernel] = []
    seen: set[int] = set()
    for layer in model._flatten_layers(include_self=True):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            if variable.name not in _NAMES or len(variable.shape) < 2 or id(variable) in seen:
                continue
            seen.add(id(variable))
            kernels.append(_kernel(layer, variable))
    counts: dict[str, int] = {}
    for i, kernel in enumerate(kernels):
        n = counts[kernel.name] = counts.get(kernel.name, 0) + 1
        if n > 1:
            kernels[i] = dataclasses.replace(kernel, name=f"{kernel.name}:{n}")
    return kernels


def _kernel(layer: Any, variable: Any) -> Kernel:
    rank = len(variable.shape)
    kind = type(layer).__name__.removeprefix("Quantized")
    name, default = layer.name, variable.name != "embeddings"
    if variable.name in ("recurrent_kernel", "depthwise_kernel", "pointwise_kernel"):
        name = f"{layer.name}/{variable.name}"
    owner = variable.path.split("/")[:-2]
    if kind.endswith("Cell") and owner:  # Users know the recurrent layer, not its cell.
        name = f"{owner[-1]}/{name}"
    axes = tuple(range(rank))
    if "Depthwise" in kind or variable.name == "depthwise_kernel":
        return Kernel(name, layer, variable, False, axes, 0, rank - 2)
    if kind.endswith("Transpose") and rank > 2:  # [window, out, in]
        order = (*axes[:-2], axes[-1], axes[-2])
        return Kernel(name, layer, variable, default, order, rank - 2, 1)
    if kind == "EinsumDense":
        letters, output = re.split(r"->", layer.equation.split(",")[1])
        inputs = [i for i, c in enumerate(letters) if c not in output]
        outputs = [i for i, c in enumerate(letters) if c in output]
        return Kernel(name, layer, variable, default, (*inputs, *outputs), 0, len(inputs))
    return Kernel(name, layer, variable, default, axes, rank - 2, 1)


# --- rules --------------------------------------------------------------------------------------


def check_rules(rules: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Raises UsageError unless each rule is a dict of "regex" and some of `keys`."""
    for rule in rules:
        if not isinstance(rule, Mapping) or "regex" not in rule or len(rule) < 2:
            raise UsageError(
                f'A rule is a dict of "regex" and at least one of {", ".join(keys)}. '
                f"Received: {rule!r}."
            )
        for key in rule:
            if key != "regex" and key not in keys:
                raise unknown_option("key of a rule", key, ("regex", *keys))
        try:
            re.compile(rule["regex"])
        except (re.error, TypeError) as e:
            raise UsageError(f"{rule['regex']!r} is not a regular expression: {e}.") from None


def choices_for(
    names: Sequence[str], rules: Sequence[Mapping[str, Any]], what: str
) -> list[dict[str, Any]]:
    """What the rules say about each of `names`: one dict a name, empty where no rule matches.

    Args:
      names: of layers; a rule's "regex" is searched in them.
      rules: dicts that `check_rules` let pass. Several may match one name, if they agree.
      what: what the names are, for the error ("layers with a kernel").

    Raises:
      UsageError: a rule matches no name, or two rules say different things of one.
    """
    found: list[dict[str, Any]] = [{} for _ in names]
    said_by: list[dict[str, str]] = [{} for _ in names]
    for rule in rules:
        hits = [i for i, name in enumerate(names) if re.search(rule["regex"], name)]
        if not hits:
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise UsageError(
                f"The rule {rule['regex']!r} matches none of the {what}. They are: {shown}."
            )
        for i in hits:
            for key, value in rule.items():
                if key == "regex":
                    continue
                if key in found[i] and found[i][key] != value:
                    raise UsageError(
                        f"Two rules contradict each other on {names[i]!r}: {said_by[i][key]!r} "
                        f"says {key}={found[i][key]!r}, {rule['regex']!r} says {key}={value!r}. "
                        "Narrow one of them."
                    )
                found[i][key], said_by[i][key] = value, rule["regex"]
    return found


def select(
    model: Any, rules: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[tuple[Kernel, dict[str, Any]]]:
    """The kernels to work on with what the rules say of each.

    Raises:
      UsageError: the rules are wrong (see `choices_for`), or there is no kernel at all.
    """
    check_rules(rules, keys)
    kernels = find_kernels(model)
    found = choices_for([k.name for k in kernels], rules, "layers with a kernel")
    chosen = [(k, c) for k, c in zip(kernels, found, strict=True) if k.default or c]
    if not chosen:
        raise UsageError(
            f"The model {model.name!r} has no kernel to work on (convolutions, dense, einsum and "
            "recurrent layers have; depthwise ones only where a rule names them)."
        )
    return chosen
