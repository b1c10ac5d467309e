"""A `.tflite` file with a free batch, or another batch, made static.

The interpreter itself resizes the inputs and works out every shape after them. Integer tensors
that have become constants this way (SHAPE and what is computed from it) are folded. Whether the
result still is the same model is then checked by running both, sample by sample.
"""

from __future__ import annotations

import numpy as np

from tfq.errors import ModelError
from tfq.graph.check import run_in_child
from tfq.graph.effects import is_repeatable
from tfq.graph.interface import read_interface
from tfq.graph.model import Graph, Model, Op, Tensor, numpy_dtype
from tfq.runtime import Runner

_FOLDED_TYPES = {"int32", "int64", "bool"}


def needs_resize(model: Model, batch: int) -> bool:
    """Whether an input is dynamic, or the inputs' static batch is not the one asked for.

    A batch of 1 is the default, so a file with another static batch is then left as it is. What
    grows inside a loop of a static model is dynamic in the file too, and stays so.
    """
    if any(t.signature is not None for t in model.main.inputs):
        return True
    return batch != 1 and any(t.shape and t.shape[0] != batch for t in model.main.inputs)


def correct(model: Model) -> bool:
    """Gives the main graph's tensors the shapes that their ops compute; says whether any was wrong.

    LiteRT works shapes out for itself and does not look at those that a file states; all that
    plans and compares looks at them.

    Args:
      model: one that runs; changed in place.
    """
    # Written first: then the position of a tensor in the graph is its index.
    try:
        details = Runner(model.to_bytes(), kernels="builtin").tensor_details()
    except ModelError:  # Custom ops, which somebody else runs.
        return False
    wrong = False
    for tensor, detail in zip(model.main.tensors(), details, strict=False):
        found = tuple(int(d) for d in detail["shape"])
        if not tensor.is_const and tensor.signature is None and tensor.shape != found:
            tensor.shape, tensor.has_rank, wrong = found, True, True
    return wrong


def make_static(model: Model, batch: int, where: str) -> Model:
    """The model with its batch set to `batch` and every shape static.

    Raises:
      ModelError: a dimension besides the batch is unknown, an op has the old batch baked in, or
        the model does something else at the new batch.
    """
    shapes = _input_shapes(model, batch, where)
    old_batches = {t.shape[0] for t in model.main.inputs if t.shape}
    resized = model.copy()
    if len(old_batches) == 1:
        _free_reshapes(resized, old_batches.pop(), batch)
    _apply(resized, shapes, where)
    _fold(resized, where)
    _apply(resized, {}, where)
    left = [t for g in resized.graphs for t in g.tensors() if t.signature is not None]
    for tensor in left:
        tensor.signature = None
    _check_rows(model, resized, where)
    return resized


def _input_shapes(model: Model, batch: int, where: str) -> dict[str, list[int]]:
    shapes = {}
    for tensor in model.main.inputs:
        signature = list(tensor.signature or tensor.shape)
        if -1 in signature[1:]:
            shown = "[" + ", ".join("?" if d == -1 else str(d) for d in signature) + "]"
            raise ModelError(
                f"{where}: input {tensor.name!r} has the shape {shown}, where dimensions besides "
                "the batch are unknown. Integer kernels need static shapes: export the model "
                "with a static shape."
            )
        if signature and (signature[0] == -1 or batch != 1):
            signature[0] = batch
        shapes[tensor.name] = signature
    return shapes


def _free_reshapes(model: Model, old: int, new: int) -> None:
    """RESHAPE targets that start with the old batch start with the new one."""
    if old == new:
        return
    for op in model.main.ops:
        if op.name != "RESHAPE" or len(op.inputs) < 2:
            continue
        source, target = op.input(0), op.input(1)
        if not target.is_const or target.size == 0 or not source.shape:
            continue
        values = target.values()
        if int(values[0]) == old and source.shape[0] == old:
            values = values.copy()
            values[0] = new
            fresh = Tensor(f"{target.name}_batch", target.shape, target.dtype, values)
            op.inputs[1] = fresh
            if op.options is not None and getattr(op.options, "newShape", None) is not None:
                op.options.newShape = [int(v) for v in values]


def _apply(model: Model, shapes: dict[str, list[int]], where: str) -> None:
    """Writes the interpreter's shapes, after resizing inputs to `shapes`, into every tensor."""
    for graph, details in zip(model.graphs, _details(model, shapes, where)[0], strict=True):
        by_name = {d["name"]: d for d in details}
        for tensor in graph.tensors():
            if tensor.name in by_name and not tensor.is_const:
                tensor.shape = tuple(int(d) for d in by_name[tensor.name]["shape"])
                tensor.signature = None


def _details(
    model: Model, shapes: dict[str, list[int]], where: str
) -> tuple[list[list[dict]], dict[str, np.ndarray]]:
    """Tensor details of every graph after one run on zeros, and the main graph's integers."""
    _name_apart(model)
    data = model.to_bytes()
    try:
        # Nothing has run the model in these shapes yet.
        run_in_child(data, where=where, kernels=("builtin",), shapes=shapes)
        runner = Runner(data, kernels="builtin", keep_intermediates=True, shapes=shapes)
        runner.run_on_zeros()
    except ModelError as e:
        culprit = _culprit(model, str(e))
        raise ModelError(
            f"{where} cannot be given the batch asked for: "
            + (f"{culprit} has the old batch built in." if culprit else f"{e}")
            + " Export the model again with this batch, or ask for a smaller one."
        ) from None
    details = [runner.tensor_details(i) for i in range(len(model.graphs))]
    wanted = {t.name for t in model.main.tensors() if t.dtype in _FOLDED_TYPES and not t.is_const}
    values = {}
    for d in details[0]:
        if d["name"] in wanted:
            try:
                values[d["name"]] = runner.tensor(d["index"])
            except ModelError:  # Never computed: inside a branch not taken.
                continue
    return details, values


def _name_apart(model: Model) -> None:
    """Makes tensor names distinct within each graph, so that details can be found by name."""
    for graph in model.graphs:
        seen: set[str] = set()
        for tensor in graph.tensors():
            name, n = tensor.name, 1
            while name in seen:
                name, n = f"{tensor.name}_{n}", n + 1
            tensor.name = name
            seen.add(name)


def _culprit(model: Model, message: str) -> str:
    """The op that an interpreter error names by its number: "Node number 3 (RESHAPE) failed".

    Empty where it names none.
    """
    parts = message.split("Node number ")
    if len(parts) > 1:
        number = parts[-1].split(" ")[0]
        if number.isdigit() and int(number) < len(model.main.ops):
            op = model.main.ops[int(number)]
            return f"{op.label} with output {op.key!r}"
    return ""


def _fold(model: Model, where: str) -> None:
    """Replaces integer tensors that depend on shapes and constants only by their values."""
    graph: Graph = model.main
    shaped = [op for op in graph.ops if op.name in ("SHAPE", "RANK")]
    if not shaped:
        return
    _, values = _details(model, {}, where)
    kept: list[Op] = []
    for op in graph.ops:
        constant = op.name in ("SHAPE", "RANK") or all(t is None or t.is_const for t in op.inputs)
        foldable = (
            constant
            and is_repeatable(op)
            and all(t.dtype in _FOLDED_TYPES and t.name in values for t in op.outputs)
        )
        if not foldable:
            kept.append(op)
            continue
        for tensor in op.outputs:
            tensor.data = values[tensor.name]
            tensor.shape, tensor.signature = tensor.data.shape, None
    computed = {t for op in kept for t in op.outputs}
    if all(t in computed or t in graph.inputs for t in graph.outputs):
        graph.ops = kept


def _check_rows(before: Model, after: Model, where: str) -> None:
    """Compares the new model on a batch with the old one on its samples, one after another."""
    old, new = read_interface(before), read_interface(after)
    old_batch = next((a.shape[0] for a in old.inputs if a.shape), 1)
    new_batch = next((a.shape[0] for a in new.inputs if a.shape), 1)
    if old_batch == new_batch or new_batch % old_batch:
        return
    rng = np.random.default_rng(0)
    inputs = {}
    for arg in new.inputs:
        floats = arg.dtype == "float32"
        drawn = rng.uniform(-1, 1, arg.shape) if floats else rng.integers(0, 2, arg.shape)
        inputs[arg.name] = np.asarray(drawn, numpy_dtype(arg.dtype))
    whole = Runner(after.to_bytes()).run({a.tensor_name: inputs[a.name] for a in new.inputs})
    single = Runner(before.to_bytes())
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, new_batch, old_batch):
        feed = {}
        for arg in old.inputs:
            value = inputs[arg.name]
            feed[arg.tensor_name] = value[start : start + old_batch] if arg.shape else value
        single.reset_state()
        parts.append(single.run(feed))
    for was, now in zip(old.outputs, new.outputs, strict=True):
        expected = np.concatenate([np.atleast_1d(p[was.tensor_name]) for p in parts])
        got = whole[now.tensor_name]
        if got.shape != expected.shape or not np.allclose(
            got,
            expected,
            rtol=1e-3,
            atol=1e-3 * max(1.0, float(np.max(np.abs(expected), initial=0))),
        ):
            raise ModelError(
                f"{where} does something else with a batch of {new_batch}: output {was.name!r} "
                f"(shape {list(got.shape)}) is not that of the samples one by one (shape "
                f"{list(expected.shape)}). Export the model again with this batch."
            )
