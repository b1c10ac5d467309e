"""An integer `.tflite` file as a Keras model that computes what the device computes.

Every op of the file becomes a layer of integer TensorFlow ops, named after the Keras layer it came
from where the file tells; so `get_layer`, `summary` and sub-models work as with any Keras model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq.errors import UsageError
from tfq.graph.model import Model, Op, Tensor
from tfq.graph.numerics import LIMITS, Grid, dequantize
from tfq.graph.rebatch import with_free_batch
from tfq.keras.simulation.delegation import is_delegated
from tfq.keras.simulation.names import input_names, op_names, plain
from tfq.keras.simulation.registry import OPS, unsupported


class Kernel(keras.layers.Layer):
    """One op of the file. Called with its computed inputs; constants are its own.

    Args:
      op: the op.
      kernels: the set whose rounding it has; "xnnpack" only for an op that XNNPACK takes.
      free_batch: the leading dimension counts samples and may differ from the file's.
    """

    def __init__(self, op: Op, kernels: str, free_batch: bool, **kwargs: Any):
        super().__init__(autocast=False, trainable=False, **kwargs)
        self._op, self.kernels, self._free = op, kernels, free_batch

    def call(self, computed: Sequence[Any]) -> list[Any]:
        given = iter(computed)
        values: list[Any] = [
            None if t is None else tf.constant(t.values()) if t.is_const else next(given)
            for t in self._op.inputs
        ]
        results = OPS[self._op.name].function(self._op, values, self.kernels)
        outputs = zip(results, self._op.outputs, strict=True)
        return [tf.ensure_shape(y, self._shape(t)) for y, t in outputs]

    def compute_output_spec(self, computed: Sequence[Any]) -> list[Any]:
        """What the file says, instead of what tracing the call would find after a while."""
        return [keras.KerasTensor(self._shape(t), t.dtype) for t in self._op.outputs]

    def _shape(self, t: Tensor) -> tuple[int | None, ...]:
        return (None, *t.shape[1:]) if self._free else t.shape


class OntoGrid(keras.layers.Layer):
    """Real values to the integers of an input: rint(x / scale) + zero point, saturated."""

    def __init__(self, tensor: Tensor, **kwargs: Any):
        super().__init__(autocast=False, trainable=False, **kwargs)
        self._tensor, self._grid = tensor, _grid(tensor)

    def call(self, x: Any) -> Any:
        low, high = LIMITS[self._tensor.dtype]
        steps = tf.round(tf.cast(x, tf.float64) / self._grid.scale[0]) + self._grid.zero_point[0]
        return tf.cast(tf.clip_by_value(steps, low, high), self._tensor.dtype)


class OffGrid(keras.layers.Layer):
    """The integers of an output to the real values they stand for."""

    def __init__(self, tensor: Tensor, **kwargs: Any):
        super().__init__(autocast=False, trainable=False, **kwargs)
        self._grid = _grid(tensor)

    def call(self, q: Any) -> Any:
        centred = tf.cast(q, tf.float64) - self._grid.zero_point[0]
        return tf.cast(centred * self._grid.scale[0], tf.float32)


def _grid(tensor: Tensor) -> Grid:
    assert tensor.quant is not None
    return Grid.of(tensor.dtype, tensor.quant)


def _on_grid(tensor: Tensor) -> bool:
    return tensor.quant is not None and tensor.dtype in ("int8", "uint8", "int16")


class Simulator(keras.Model):
    """What `simulate` returns: a Functional model of one `Kernel` layer per op.

    Inputs and outputs are real values; those that the file holds as integers are put on their
    grids on the way in and taken off on the way out. All integers in between are read with
    `integers`.

    Attributes:
      kernels: "xnnpack", "builtin" or "reference".
      grids: tensor name -> its grid, for every quantized tensor.
    """

    # Set after keras.Model has wired inputs to outputs.
    kernels: str
    grids: Mapping[str, Grid]
    _tensors: dict[str, Any]
    _ends: list[Tensor]
    _reader: Any

    def integers(self, x: Any) -> dict[str, np.ndarray]:
        """Runs the model and returns every computed tensor by its name in the file.

        Args:
          x: as the model is called with; arrays of an input's own integer type are taken as
            integers of its grid, others as real values.

        Returns:
          Tensor name -> array [samples, ...] of the tensor's own type, inputs included.

        Raises:
          UsageError: the number of inputs or a shape is wrong.
        """
        if self._reader is None:
            reader = keras.Model(self.inputs, list(self._tensors.values()))
            self._reader = tf.function(
                lambda *arrays: reader(list(arrays) if len(arrays) > 1 else arrays[0]),
                autograph=False,
                input_signature=[tf.TensorSpec(i.shape, i.dtype) for i in self.inputs],
            )
        found = self._reader(*self._real(x))
        return {name: np.asarray(v) for name, v in zip(self._tensors, found, strict=True)}

    def reals(self, x: Any) -> dict[str, np.ndarray]:
        """`integers`, as the real values they stand for (float32) where they are on a grid."""
        return {
            name: dequantize(q, self.grids[name]) if name in self.grids else q
            for name, q in self.integers(x).items()
        }

    def _real(self, x: Any) -> list[Any]:
        names = [i.name for i in self.inputs]
        if isinstance(x, Mapping):
            missing = [n for n in names if n not in x]
            if missing:
                raise UsageError(f"Inputs {missing} are missing. Received: {sorted(x)}.")
            given = [x[n] for n in names]
        else:
            given = list(x) if isinstance(x, list | tuple) else [x]
        if len(given) != len(names):
            raise UsageError(f"The model has {len(names)} inputs. Received: {len(given)}.")
        arrays = []
        for value, tensor, symbol in zip(given, self._ends, self.inputs, strict=True):
            array = np.asarray(value)
            if array.dtype == tensor.dtype and _on_grid(tensor):
                array = dequantize(array, _grid(tensor))
            shape = tuple(symbol.shape)
            if array.ndim != len(shape) or any(
                n is not None and n != m for n, m in zip(shape, array.shape, strict=True)
            ):
                raise UsageError(
                    f"Input {symbol.name!r} has shape {list(shape)}. Received: {list(array.shape)}."
                )
            arrays.append(tf.convert_to_tensor(array.astype(symbol.dtype)))
        return arrays

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A simulator is made again from its file and is not saved itself."""
        raise UsageError(
            "A simulator cannot be saved. Save the .tflite that it was made from and call "
            "tfq.keras.simulate on it."
        )


def build(model: Model, kernels: str, known_layers: Sequence[str] = ()) -> Simulator:
    """The simulator of an integer model.

    Args:
      model: the file.
      kernels: "xnnpack", "builtin" or "reference".
      known_layers: names of the source's layers, where they are known.

    Raises:
      UsageError: ops that cannot be simulated; all of them are named.
    """
    names = op_names(model, known_layers)
    reasons = unsupported(model, names)
    if reasons:
        raise UsageError(
            f"Cannot simulate {len(reasons)} ops: {'; '.join(reasons)}. "
            "Quantize the model to integers only, or exclude these layers before simulating."
        )
    how = [
        "builtin" if kernels == "xnnpack" and not is_delegated(op) else kernels
        for op in model.main.ops
    ]
    if _takes_batches(model):
        free = _wire(model, names, how, kernels, free_batch=True)
        if _keeps_samples_apart(free):
            return free
    return _wire(model, names, how, kernels, free_batch=False)


def _takes_batches(model: Model) -> bool:
    """Whether every computed tensor has a leading dimension of 1, which may be the samples'."""
    computed = [t for op in model.main.ops for t in op.outputs]
    return with_free_batch(model) is not None and all(t.shape[:1] == (1,) for t in computed)


def _keeps_samples_apart(simulator: Simulator) -> bool:
    """Tries it: two samples together must give what they give one by one."""
    rng = np.random.default_rng(0)
    pair = []
    for symbol, tensor in zip(simulator.inputs, simulator._ends, strict=True):
        shape = (2, *symbol.shape[1:])
        if _on_grid(tensor):
            pair.append(rng.integers(*LIMITS[tensor.dtype], shape, endpoint=True))
            pair[-1] = pair[-1].astype(tensor.dtype)
        else:
            pair.append(rng.integers(0, 2, shape).astype(symbol.dtype))
    try:
        both = simulator.integers(pair)
        each = [simulator.integers([v[i : i + 1] for v in pair]) for i in range(2)]
    except (tf.errors.InvalidArgumentError, ValueError):
        return False
    return all(np.array_equal(q, np.concatenate([e[n] for e in each])) for n, q in both.items())


def _wire(
    model: Model, names: Sequence[str], how: Sequence[str], kernels: str, free_batch: bool
) -> Simulator:
    main = model.main
    values: dict[Tensor, Any] = {}
    inputs, ends = [], input_names(model)
    for tensor, name in zip(main.inputs, ends, strict=True):
        dtype = "float32" if _on_grid(tensor) else tensor.dtype
        batch = None if free_batch else tensor.shape[:1][0] if tensor.shape else None
        shape = (batch, *tensor.shape[1:]) if tensor.shape else ()
        inputs.append(keras.Input(batch_shape=shape, dtype=dtype, name=name))
        values[tensor] = inputs[-1]
        if _on_grid(tensor):
            values[tensor] = OntoGrid(tensor, name=plain(f"{name}.quantize"))(inputs[-1])
    for op, name, kind in zip(main.ops, names, how, strict=True):
        computed = [values[t] for t in op.inputs if t is not None and not t.is_const]
        layer = Kernel(op, kind, free_batch, name=name)
        results = layer(computed) if computed else layer.call([])
        values.update(zip(op.outputs, results, strict=True))
    outputs = []
    for i, tensor in enumerate(main.outputs):
        y = values[tensor]
        outputs.append(OffGrid(tensor, name=f"output{i}.dequantize")(y) if _on_grid(tensor) else y)
    simulator = Simulator(
        inputs[0] if len(inputs) == 1 else inputs,
        outputs[0] if len(outputs) == 1 else outputs,
        name="simulator",
    )
    # Attributes that Keras need not track.
    kept = {
        "kernels": kernels,
        "grids": {t.name: _grid(t) for t in main.tensors() if _on_grid(t)},
        "_tensors": {t.name: v for t, v in values.items() if isinstance(v, keras.KerasTensor)},
        "_ends": list(main.inputs),
        "_reader": None,
    }
    for key, value in kept.items():
        object.__setattr__(simulator, key, value)
    return simulator
