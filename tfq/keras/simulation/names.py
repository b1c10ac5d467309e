"""Names of the simulator's layers: those of the Keras layers that the ops came from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tfq.graph.model import Model
from tfq.sources.layers import layer_names


def plain(name: str) -> str:
    """A name that Keras takes: it allows no slashes."""
    return re.sub(r"[/\s]+", ".", name).strip(".") or "layer"


class _Taken:
    def __init__(self) -> None:
        self._names: set[str] = set()

    def free(self, name: str) -> str:
        found, n = name, 1
        while found in self._names:
            found, n = f"{name}_{n}", n + 1
        self._names.add(found)
        return found


def input_names(model: Model) -> list[str]:
    """Names of the inputs: the signature's, where the file has one."""
    known = {t: name for s in model.signatures if s.graph == 0 for name, t in s.inputs.items()}
    taken = _Taken()
    return [taken.free(plain(known.get(t, t.name))) for t in model.main.inputs]


def op_names(model: Model, known: Sequence[str] = ()) -> list[str]:
    """A unique name for each op of the main graph.

    The last op of a Keras layer has the layer's name, so that `get_layer(name).output` is what the
    layer gives; the ops before it add their own ("dense.reshape"). An op of no known layer is
    called after what it does.
    """
    layers = layer_names(model, known)
    ops = model.main.ops
    of = [layers.get(op.outputs[0].name, "") if op.outputs else "" for op in ops]
    last = {layer: i for i, layer in enumerate(of) if layer}
    taken = _Taken()
    for name in input_names(model):
        taken.free(name)
    found = [""] * len(ops)
    for layer, i in last.items():
        found[i] = taken.free(plain(layer))
    for i, op in enumerate(ops):
        if not found[i]:
            label = op.label.lower()
            found[i] = taken.free(plain(f"{of[i]}.{label}" if of[i] else label))
    return found
