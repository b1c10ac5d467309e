"""TensorFlow models as one function of static shapes, saved for the converter.

Imports TensorFlow: used in the worker, and in the user's process for objects that already live
there. TensorFlow rewrites argument names that are no Python identifiers, so functions are traced
with safe names, and the user's own are put back into the `.tflite` signature afterwards.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfq.errors import ModelError
from tfq.sources.causes import root_cause
from tfq.sources.state import without_idle_state


@dataclasses.dataclass
class Entry:
    """One entry point, traced with static shapes.

    Attributes:
      key: the signature's key.
      function: takes its inputs by safe name and returns a dict of outputs by safe name.
      input_names: the user's name for each safe name, in the order of the source.
      output_names: likewise.
      owner: what holds the variables and tables that the function reads.
      layers: names of the layers, or of the scopes of variables where layers are not known.
      batch: the batch size that took the place of a free one.
      variables: those that the function reads beside the ones that it knows itself.
    """

    key: str
    function: Any
    input_names: dict[str, str]
    output_names: dict[str, str]
    owner: Any = None
    layers: list[str] = dataclasses.field(default_factory=list)
    batch: int = 1
    variables: Sequence[Any] = ()

    def save(self, folder: Path) -> None:
        """Writes a SavedModel whose only signature is this entry.

        What is saved with it is what the function reads, and not the owner unless that has to be: a
        Keras model would be saved with functions of its own, which may read other variables.
        """
        module = tf.Module()
        module.read = [*self.function.variables, *self.variables]
        handles = {id(getattr(v, "handle", None)) for v in module.read}
        captured = [o for o, _ in self.function.graph.captures if o.dtype == tf.resource]
        if any(id(o) not in handles for o in captured):  # Tables, and what they are filled from.
            module.owner = self.owner
        # Nobody trains what is saved here, and gradients of frozen functions cannot be saved.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        signatures = {self.key: self.function}
        tf.saved_model.save(module, str(folder), signatures=signatures, options=options)

    def rename(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Gives arguments the user's names, in the order of `inputs` and `outputs`."""
        self.input_names = _renamed(self.input_names, inputs)
        self.output_names = _renamed(self.output_names, outputs)


def _renamed(names: dict[str, str], again: Mapping[str, str]) -> dict[str, str]:
    """`names` with values renamed by `again`, in the order of `again`."""
    place = {name: i for i, name in enumerate(again)}
    ordered = sorted(names.items(), key=lambda item: place.get(item[1], 0))
    return {safe: again.get(name, name) for safe, name in ordered}


def trace(
    call: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    specs: Mapping[str, tf.TensorSpec],
    *,
    batch: int,
    key: str = "serving_default",
    owner: Any = None,
) -> Entry:
    """Traces `call`, a function from inputs by name to outputs by name.

    Raises:
      ModelError: an input's shape cannot be made static, its type holds no numbers, or the model
        was exported in training mode.
    """
    inputs = dict(zip(safe_names(specs), specs, strict=True))
    static = {
        safe: tf.TensorSpec(static_shape(specs[name], name, batch), specs[name].dtype, name=safe)
        for safe, name in inputs.items()
    }
    outputs: dict[str, str] = {}

    @tf.function(autograph=False)
    def entry(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        results = call({inputs[safe]: tensor for safe, tensor in tensors.items()})
        outputs.update(zip(safe_names(results), results, strict=True))
        return {safe: tf.identity(results[name]) for safe, name in outputs.items()}

    function = entry.get_concrete_function(**static)
    variables = function.variables
    if (simpler := without_idle_state(function)) is not None:
        again = tf.function(lambda **tensors: simpler(tensors), autograph=False)
        function = again.get_concrete_function(**static)
    return Entry(key, function, inputs, outputs, owner, batch=batch, variables=variables)


def static_shape(spec: tf.TensorSpec, name: str, batch: int) -> list[int]:
    """The shape of an input with its batch set to `batch`.

    Raises:
      ModelError: the rank or another dimension is unknown, or the batch is fixed otherwise.
    """
    if not isinstance(spec, tf.TensorSpec):
        raise ModelError(
            f"Input {name!r} is a {type(spec).__name__}. Only dense tensors can be converted: "
            "export the model with dense inputs."
        )
    if spec.dtype in (tf.string, tf.resource, tf.variant):
        raise ModelError(
            f"Input {name!r} is of type {spec.dtype.name}, which has no integer form. "
            "Export the part of the model that takes numbers."
        )
    if spec.shape.rank is None:
        raise ModelError(
            f"Input {name!r} has no known rank. Export the model with an input signature that "
            "gives its shape."
        )
    shape = spec.shape.as_list()
    if any(d is None for d in shape[1:]):
        shown = "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
        raise ModelError(
            f"Input {name!r} has the shape {shown}: dimensions besides the batch are unknown. "
            "Integer kernels need static shapes: export the model with a static shape "
            "(Keras: keras.Input with all dimensions; tf.function: an input_signature)."
        )
    if shape and shape[0] is None:
        shape[0] = batch
    elif shape and batch != 1 and shape[0] != batch:
        raise ModelError(
            f"Input {name!r} was exported with the batch fixed at {shape[0]}, so it cannot become "
            f"{batch}. Export the model with a free batch dimension."
        )
    return shape


def safe_names(names: Iterable[str]) -> list[str]:
    """Distinct Python identifiers for `names`, the same where a name is one already."""
    safe: list[str] = []
    for name in names:
        candidate = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not candidate or not candidate[0].isalpha():
            candidate = f"arg_{candidate}"
        while candidate in safe:
            candidate += "_"
        safe.append(candidate)
    return safe


def unique(names: Sequence[str]) -> list[str]:
    """`names` with a number added where one comes again."""
    out: list[str] = []
    for name in names:
        n, candidate = 1, name
        while candidate in out:
            candidate = f"{name}_{n}"
            n += 1
        out.append(candidate)
    return out


# --- Keras --------------------------------------------------------------------------------------


def trace_keras(model: Any, *, batch: int) -> Entry:
    """A Keras 3 or tf_keras model at inference.

    Argument names are those of the model's inputs (the keys, for a dict), and output names those
    of its outputs ("output_0", ... for a subclassed model that returns tensors).

    Raises:
      ModelError: the model was never built, or tracing it fails.
    """
    model = _without_wrappers(model)
    structure, names, spread = _keras_inputs(model)
    flat = tf.nest.flatten(structure)
    specs = {
        name: tf.TensorSpec(t.shape, t.dtype) if not isinstance(t, tf.TypeSpec) else t
        for name, t in zip(names, flat, strict=True)
    }
    known_outputs = getattr(model, "output_names", None) if _is_functional(model) else None

    def call(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        packed = tf.nest.pack_sequence_as(structure, [tensors[n] for n in names])
        results = model(*packed, training=False) if spread else model(packed, training=False)
        return name_outputs(results, known_outputs)

    try:
        entry = trace(call, specs, batch=batch, owner=model)
        entry.layers = [layer.name for layer in model._flatten_layers(include_self=False)]
        return entry
    except ModelError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, tf.errors.OpError) as e:
        raise ModelError(
            f"The Keras model {model.name!r} cannot be traced with static shapes: {root_cause(e)}"
        ) from None


def _without_wrappers(model: Any) -> Any:
    """A tf_keras model without the pruning and clustering wrappers of
    tensorflow-model-optimization, which assign to variables at inference too.
    """
    if not type(model).__module__.startswith("tf_keras"):
        return model
    wrappers = {type(layer).__name__ for layer in model._flatten_layers(include_self=False)}
    if "PruneLowMagnitude" in wrappers:
        sparsity: Any = importlib.import_module("tensorflow_model_optimization").sparsity
        model = sparsity.keras.strip_pruning(model)
    if "ClusterWeights" in wrappers:
        clustering: Any = importlib.import_module("tensorflow_model_optimization").clustering
        model = clustering.keras.strip_clustering(model)
    return model


def name_outputs(results: Any, known: Sequence[str] | None = None) -> dict[str, tf.Tensor]:
    """Outputs by name: a dict's keys, else `known`, else "output_0", "output_1", ..."""
    if isinstance(results, Mapping) and all(tf.is_tensor(v) for v in results.values()):
        return {str(k): v for k, v in results.items()}
    flat = tf.nest.flatten(results)
    if known is None or len(known) != len(flat):
        known = [f"output_{i}" for i in range(len(flat))]
    return dict(zip(unique(known), flat, strict=True))


def _is_functional(model: Any) -> bool:
    return bool(getattr(model, "inputs", None)) and any(
        c.__name__ in ("Functional", "Sequential") for c in type(model).__mro__
    )


def _keras_inputs(model: Any) -> tuple[Any, list[str], bool]:
    """The structure of symbolic inputs or specs, a name for each of them flattened, and whether
    the structure is a list of separate arguments."""
    spread = False
    if _is_functional(model):
        structure = getattr(model, "_inputs_struct", None)  # Keras 3
        if structure is None:
            structure = getattr(model, "_nested_inputs", None)  # tf_keras
        if structure is None:
            structure = model.inputs[0] if len(model.inputs) == 1 else list(model.inputs)
        structure = _plain(structure)
    else:
        structure, spread = _called_with(model)
    flat = tf.nest.flatten(structure)
    if isinstance(structure, dict):
        names = sorted(structure) if len(structure) == len(flat) else []
    else:
        names = []
    if not names:
        default = "inputs" if len(flat) == 1 else "input"
        names = [
            (getattr(t, "name", None) or (default if len(flat) == 1 else f"{default}_{i}"))
            for i, t in enumerate(flat)
        ]
    return structure, unique([str(n).split(":")[0] for n in names]), spread


def _plain(structure: Any) -> Any:
    """Lists, tuples and dicts in place of Keras's tracked ones."""
    if isinstance(structure, Mapping):
        return {k: _plain(v) for k, v in structure.items()}
    if isinstance(structure, list | tuple) and not hasattr(structure, "_fields"):
        items = [_plain(v) for v in structure]
        return items if isinstance(structure, list) else tuple(items)
    return structure


def _called_with(model: Any) -> tuple[Any, bool]:
    """What a subclassed model was called with, as specs, and whether as separate arguments."""
    never = ModelError(
        f"The Keras model {getattr(model, 'name', model)!r} has never been called, so its input "
        "shapes are unknown. Call it once on a sample before converting it."
    )
    if hasattr(model, "save_spec"):  # tf_keras
        spec = model.save_spec()
        if spec is None:
            raise never
        arguments = list(spec[0])
    else:
        from keras.src.export.export_utils import get_input_signature

        try:
            signature = get_input_signature(model)
        except ValueError:
            raise never from None
        arguments = list(signature.values() if isinstance(signature, Mapping) else signature)
        arguments = [_specs(a) for a in arguments]
    if len(arguments) == 1:
        return _plain(arguments[0]), False
    return [_plain(a) for a in arguments], True


def _specs(structure: Any) -> Any:
    if isinstance(structure, Mapping):
        return {k: _specs(v) for k, v in structure.items()}
    if isinstance(structure, list | tuple):
        return [_specs(v) for v in structure]
    return tf.TensorSpec(structure.shape, structure.dtype, name=getattr(structure, "name", None))


# --- SavedModel signatures, graphs, concrete functions ------------------------------------------


def trace_signature(function: Any, *, key: str, batch: int, owner: Any) -> Entry:
    """A SavedModel's signature function, or any concrete function with named tensor arguments."""
    args, kwargs = function.structured_input_signature or ((), {})
    # SavedModels keep arguments and outputs in maps without an order: sorted, 2 before 10.
    kwargs = {name: kwargs[name] for name in sorted(kwargs, key=_natural)}
    # Arguments that are no tensors (training=False) were fixed when the function was traced.
    positional = [
        (i, (getattr(spec, "name", None) or f"input_{i}").split(":")[0])
        for i, spec in enumerate(tf.nest.flatten(args))
        if isinstance(spec, tf.TypeSpec)
    ]
    flat_args = tf.nest.flatten(args)
    specs = {name: flat_args[i] for i, name in positional}
    specs |= {name: spec for name, spec in kwargs.items() if isinstance(spec, tf.TypeSpec)}

    def call(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        values = list(flat_args)
        for i, name in positional:
            values[i] = tensors[name]
        keyword = {name: tensors.get(name, value) for name, value in kwargs.items()}
        results = name_outputs(function(*tf.nest.pack_sequence_as(args, values), **keyword))
        return {name: results[name] for name in sorted(results, key=_natural)}

    entry = trace(call, specs, batch=batch, key=key, owner=owner)
    scopes = {v.name.split("/")[-2] for v in function.variables if "/" in v.name}
    entry.layers = sorted(scopes)
    return entry


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def trace_graph(graph_def: Any, *, batch: int, where: str) -> Entry:
    """A frozen graph: its Placeholders are the inputs, the nodes that nobody reads the outputs.

    Raises:
      ModelError: there are none, or the graph still holds variables.
    """
    variables = [
        n.name for n in graph_def.node if n.op in ("VariableV2", "Variable", "VarHandleOp")
    ]
    if variables:
        raise ModelError(
            f"{where} is not frozen: {variables[0]!r} is a variable without a value. Freeze the "
            "graph, or pass the SavedModel folder."
        )
    placeholders = [n for n in graph_def.node if n.op == "Placeholder"]
    read = {name.lstrip("^").split(":")[0] for n in graph_def.node for name in n.input}
    outputs = [
        n.name
        for n in graph_def.node
        if n.name not in read and n.op not in ("Placeholder", "NoOp", "Const", "Assert")
    ]
    if not placeholders or not outputs:
        what = "Placeholder to feed" if not placeholders else "node to read"
        raise ModelError(f"{where} has no {what}, so there is nothing to convert.")
    wrapped = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph_def, name=""), []
    )
    graph = wrapped.graph
    feeds = [graph.get_tensor_by_name(f"{n.name}:0") for n in placeholders]
    fetches = [t for name in outputs for t in graph.get_operation_by_name(name).outputs]
    pruned = wrapped.prune(feeds, fetches)
    names = [n.name for n in placeholders]
    result_names = unique([t.op.name for t in fetches])

    def call(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        results = pruned(*[tensors[n] for n in names])
        return dict(zip(result_names, results, strict=True))

    specs = {n: tf.TensorSpec(t.shape, t.dtype) for n, t in zip(names, feeds, strict=True)}
    return trace(call, specs, batch=batch, owner=wrapped)
