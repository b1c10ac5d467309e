"""From the names that TensorFlow's converter gives to tensors back to the layers a user wrote."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable

from tfq.graph.model import Model

# Names that the converter makes up, and the wrappers of functions that were inlined.
_MADE_UP = re.compile(r"^(arith\.|tfl\.|std\.|vhlo\.|stablehlo\.|tf\.|Const(_\d+)?$)")
_WRAPPER = re.compile(r"^(Stateful|Stateless)?PartitionedCall(_\d+)?$")
_ROOT = re.compile(r"^(model|functional|sequential)(_\d+)*$")
# Scopes inside a Keras layer that name no layer.
_INNER = re.compile(
    r"^(batchnorm|moments|Tensordot|MatMul|Reshape|ReadVariableOp|while|"
    r"Fake\w+|[A-Z]\w*|truediv|Cast)(_\d+)*$"
)


def layer_of(tensor_name: str, root: str = "") -> str:
    """The layer path in a tensor's name, or ``""`` when the name holds none.

    ``"model/conv2d_1/Relu;model/conv2d_1/BiasAdd"`` gives ``"conv2d_1"``: of the names that fusing
    joined with semicolons the first that names a layer, without the model's own scope, without
    the op, and without the scopes that a layer opens inside itself.

    Args:
      tensor_name: the name in the file.
      root: the model's own scope, where it is none of "model", "functional" and "sequential".
    """
    for piece in tensor_name.split(";"):
        parts = _parts(piece)
        if len(parts) < 2:
            continue
        parts = parts[:-1]
        while len(parts) > 1 and _INNER.match(parts[-1]):
            parts.pop()
        if len(parts) > 1 and (parts[0] == root or _ROOT.match(parts[0])):
            parts = parts[1:]
        elif len(parts) == 1 and (parts[0] == root or _ROOT.match(parts[0])):
            continue
        return "/".join(parts)
    return ""


def layer_names(model: Model, known: Iterable[str] = ()) -> dict[str, str]:
    """Layer paths by tensor name, for every tensor of every graph whose name holds one.

    Keras 3 enters the scope of each layer twice while tracing, so that its layer "conv" shows as
    "conv_1" in every tensor name, and a layer "conv_1" beside it as "conv_1_2", "conv_1" being
    taken. That is undone where `known` proves it, or where every name speaks for it.

    Args:
      model: the converted model.
      known: names of the layers that the source has, where the source could tell.
    """
    names = [t.name for graph in model.graphs for t in graph.tensors()]
    root = _common_scope(names)
    found = {name: layer for name in names if (layer := layer_of(name, root))}
    layers = set(known)
    parts = {part for path in found.values() for part in path.split("/")}
    if _shifted(parts, layers):
        found = {
            name: "/".join(_unshift(part, parts | layers) for part in path.split("/"))
            for name, path in found.items()
        }
    found = {name: _to_last_known(path, layers) for name, path in found.items()}
    # The model's outputs are named after the signature: their weights know the layer.
    for graph in model.graphs:
        for op in graph.ops:
            weights = [t.name for t in op.inputs if t is not None and t.is_const]
            layer = next((found[n] for n in weights if n in found), "")
            for tensor in op.outputs:
                if layer and tensor.name not in found:
                    found[tensor.name] = layer
    for signature in model.signatures:
        for name, tensor in signature.outputs.items():
            if name in layers:
                found.setdefault(tensor.name, name)
    return found


def _shifted(parts: set[str], known: set[str]) -> bool:
    if known:
        return any(p not in known and _unshift(p, parts) in known for p in parts)
    return len(parts) > 1 and all(_unshift(p, parts) != p for p in parts)


def _unshift(part: str, taken: set[str]) -> str:
    """The layer whose scope was entered for the second time as `part`; else `part` itself.

    A third name is needed where the second one, "conv_1", is both the layer's own name and that of
    another one's second time.
    """
    third = part.endswith("_1_2") and part.removesuffix("_2") in taken
    return part.removesuffix("_2") if third else part.removesuffix("_1")


def _to_last_known(path: str, known: set[str]) -> str:
    """Drops what follows the last part that is a layer: ops inside it ("scale/mul")."""
    parts = path.split("/")
    for end in range(len(parts), 0, -1):
        if parts[end - 1] in known:
            return "/".join(parts[:end])
    return path


def _parts(piece: str) -> list[str]:
    piece = re.sub(r":\d+$", "", piece)
    if not piece or _MADE_UP.match(piece):
        return []
    return [p for p in piece.split("/") if p and not _WRAPPER.match(p)]


def _common_scope(names: Iterable[str]) -> str:
    """The first scope that nearly all paths with at least three parts share: the model's own."""
    paths = [p for name in names for piece in name.split(";") if len(p := _parts(piece)) > 2]
    if len(paths) < 2:
        return ""
    scope, count = collections.Counter(p[0] for p in paths).most_common(1)[0]
    children = {p[1] for p in paths if p[0] == scope}
    return scope if count >= 0.9 * len(paths) and len(children) > 1 else ""
