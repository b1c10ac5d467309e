"""What a model takes and gives: names, shapes and dtypes of its inputs and outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tfq.errors import UsageError, nearest
from tfq.graph.model import Graph, Model, Signature, Tensor


@dataclasses.dataclass(frozen=True)
class ArgSpec:
    """One input or output.

    Attributes:
      name: the signature's argument name ("x"), or the tensor's name without a signature.
      tensor_name: the tensor's name in the graph ("serving_default_x:0").
      shape: static shape, with the batch dimension if there is one.
      dtype: a tensor type name ("float32").
      batched: whether the leading dimension counts samples. `read_interface` finds out; where
        nobody says, it does, but for a vector of a fixed length, which is one sample.
    """

    name: str
    tensor_name: str
    shape: tuple[int, ...]
    dtype: str
    batched: bool = None  # type: ignore[assignment]  # Filled in.

    def __post_init__(self) -> None:
        if self.batched is None:
            vector = len(self.shape) == 1 and self.shape[0] not in (1, -1)
            object.__setattr__(self, "batched", bool(self.shape) and not vector)


@dataclasses.dataclass(frozen=True)
class Interface:
    """One entry point of a model; inputs and outputs in the order of the signature."""

    signature: str | None
    inputs: tuple[ArgSpec, ...]
    outputs: tuple[ArgSpec, ...]

    @property
    def batched(self) -> bool:
        """Whether the inputs share a leading dimension that counts samples."""
        return share_batch(self.inputs)


def share_batch(inputs: Sequence[ArgSpec]) -> bool:
    """Whether all `inputs` count samples along their leading dimension, and the same number."""
    return all(a.batched for a in inputs) and len({a.shape[:1] for a in inputs}) == 1


def counts_samples(
    inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]], batch: int = 1
) -> bool:
    """Whether the leading dimension of a model's inputs is that of a batch, by their shapes.

    The inputs have to share it. A size of 1 (or -1, open), or the one that was asked for, is a
    batch. With another size, 49 windows of a sound that get one answer are one sample: a batch
    shows in the outputs. A vector of a fixed length is a sample whatever comes out: nobody fixes a
    batch of single numbers, and a sound or a sequence of words has no other form.

    Args:
      inputs, outputs: shapes; no outputs where they are not known.
      batch: the size that was asked for where the model left it open.
    """
    leading = {shape[:1] for shape in inputs}
    if len(leading) != 1 or () in leading:
        return False
    (size,) = leading.pop()
    if size in (1, -1, batch):
        return True
    if all(len(shape) == 1 for shape in inputs):
        return False
    single = [len(shape) < 2 or shape[0] == 1 for shape in outputs]
    return not outputs or not all(single) or any(shape[:1] == (size,) for shape in outputs)


def _adds_batch(graph: Graph) -> bool:
    """Whether the model itself puts a batch of 1 before an input: what comes in has none."""
    consumers = graph.consumers()
    left = list(graph.inputs)
    seen = set(left)
    while left:
        tensor = left.pop()
        rank = len(tensor.shape)
        for op, _ in consumers.get(tensor, ()):
            for out in op.outputs:
                if op.name in ("RESHAPE", "EXPAND_DIMS"):
                    added = out.shape[: rank + 1] == (1, *tensor.shape)
                    if added and tensor.shape[:1] not in ((), (1,)):
                        return True
                elif out.shape == tensor.shape and out not in seen:
                    left.append(out)
                    seen.add(out)
    return False


def read_interface(model: Model, signature: str | None = None, batch: int = 1) -> Interface:
    """The interface of `signature`, or of the only (else the first) one, or of the main graph.

    Args:
      model: the model.
      signature: its key.
      batch: the batch size that the model was given where its source left it open.

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
    shapes = [[t.shape for t in arguments.values()] for arguments in (inputs, outputs)]
    entry = model.graphs[0 if chosen is None else chosen.graph]
    batched = counts_samples(shapes[0], shapes[1], batch) and not _adds_batch(entry)

    def specs(arguments: Mapping[str, Tensor]) -> tuple[ArgSpec, ...]:
        return tuple(ArgSpec(n, t.name, t.shape, t.dtype, batched) for n, t in arguments.items())

    return Interface(chosen.key if chosen else None, specs(inputs), specs(outputs))


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
