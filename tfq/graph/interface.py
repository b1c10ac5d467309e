"""What a model takes and gives: names, shapes and dtypes of its inputs and outputs."""

from __future__ import annotations

import dataclasses

from tfq.errors import UsageError, nearest
from tfq.graph.model import Graph, Model, Signature


@dataclasses.dataclass(frozen=True)
class ArgSpec:
    """One input or output.

    Attributes:
      name: the signature's argument name ("x"), or the tensor's name without a signature.
      tensor_name: the tensor's name in the graph ("serving_default_x:0").
      shape: static shape, with the batch dimension.
      dtype: a tensor type name ("float32").
    """

    name: str
    tensor_name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Interface:
    """One entry point of a model; inputs and outputs in the order of the signature."""

    signature: str | None
    inputs: tuple[ArgSpec, ...]
    outputs: tuple[ArgSpec, ...]


def read_interface(model: Model, signature: str | None = None) -> Interface:
    """The interface of `signature`, or of the only (else the first) one, or of the main graph.

    Raises:
      UsageError: there is no such signature.
    """
    chosen = select_signature(model, signature)
    if chosen is None:
        graph: Graph = model.main
        inputs = {t.name: t for t in graph.inputs}
        outputs = {t.name: t for t in graph.outputs}
    else:
        inputs, outputs = chosen.inputs, chosen.outputs
    return Interface(
        chosen.key if chosen else None,
        tuple(ArgSpec(n, t.name, t.shape, t.dtype) for n, t in inputs.items()),
        tuple(ArgSpec(n, t.name, t.shape, t.dtype) for n, t in outputs.items()),
    )


def select_signature(model: Model, key: str | None) -> Signature | None:
    """The signature called `key`; without a key "serving_default", else the first, else None."""
    by_key = {s.key: s for s in model.signatures}
    if key is None:
        on_main = [s for s in model.signatures if s.graph == 0]
        return by_key.get("serving_default") or (on_main[0] if on_main else None)
    if key not in by_key:
        raise UsageError(
            f"The model has no signature {key!r}; it has: {', '.join(by_key) or 'none'}."
            f"{nearest(key, by_key)}"
        )
    return by_key[key]
