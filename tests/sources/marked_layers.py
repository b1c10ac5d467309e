"""Tiny models whose weights and activations `mark` quantizes, made of plain Keras layers."""

import keras
import numpy as np
import tensorflow as tf

from tfq.keras.fake_quantize import mark


def attribute(layer, path):
    for part in path.split("."):
        layer = getattr(layer, part)
    return layer


@keras.saving.register_keras_serializable(package="tfq_test")
class MarkedWeights(keras.layers.Layer):
    """A layer that computes with its weights on grids.

    Args:
      inner: the layer.
      axes: for each weight ("kernel", "cell.kernel") the dimension of its scales; -1: one scale.
      bits: of the weights.
      shrink: the share of a weight's range that its grid covers; below 1 it is clipped.
    """

    def __init__(self, inner, axes, bits=8, shrink=1.0, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.axes, self.bits, self.shrink = inner, axes, bits, shrink

    def build(self, shape):
        if not self.inner.built:
            self.inner.build(shape)
        self.steps = {
            path: self.add_weight(
                shape=scales.shape,
                initializer=lambda shape, dtype=None, scales=scales: tf.constant(scales),
                trainable=False,
                autocast=False,
                name=path.replace(".", "_") + "_scale",
            )
            for path, scales in self.scales().items()
        }

    def scales(self):
        top = 2 ** (self.bits - 1) - 1
        found = {}
        for path, axis in self.axes.items():
            w = np.abs(attribute(self.inner, path).numpy())
            others = tuple(i for i in range(w.ndim) if i != axis)
            peak = w.max(axis=others) if axis >= 0 else w.max()
            found[path] = np.asarray(np.float32(peak * self.shrink / top))
        return found

    def integers(self, path="kernel"):
        """What the grid makes of a weight, by numpy."""
        w = attribute(self.inner, path).numpy()
        steps = self.steps[path].numpy()
        if self.axes[path] >= 0:
            steps = steps.reshape([-1 if i == self.axes[path] else 1 for i in range(w.ndim)])
        top = 2 ** (self.bits - 1) - 1
        return np.clip(np.rint(w / steps), -top, top).astype(np.int8)

    def call(self, x):
        marked = [
            (
                w := attribute(self.inner, path),
                mark(w, self.steps[path], 0.0, self.bits, axis, True),
            )
            for path, axis in self.axes.items()
        ]
        with keras.StatelessScope(state_mapping=marked):
            return self.inner(x)

    def get_config(self):
        config = {"inner": keras.saving.serialize_keras_object(self.inner)}
        config |= {"axes": self.axes, "bits": self.bits, "shrink": self.shrink}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


@keras.saving.register_keras_serializable(package="tfq_test")
class MarkedValues(keras.layers.Layer):
    """Activations on a grid."""

    def __init__(self, scale=0.03, zero_point=3.0, bits=8, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.zero_point, self.bits = scale, zero_point, bits

    def call(self, x):
        return mark(x, np.float32(self.scale), np.float32(self.zero_point), self.bits)

    def get_config(self):
        config = {"scale": self.scale, "zero_point": self.zero_point, "bits": self.bits}
        return {**super().get_config(), **config}


def network(
    inner, axes, shape, *, norm=False, dtype="float32", values=True, bits=8, shrink=1.0, seed=3
):
    """input -> grid -> layer [-> BatchNormalization with factors of both signs -> ReLU] -> grid."""
    keras.utils.set_random_seed(seed)
    x = keras.Input(shape, dtype=dtype)
    h = MarkedValues()(x) if dtype == "float32" and values else x
    layer = MarkedWeights(inner, axes, bits, shrink)
    h = layer(h)
    if norm:
        rng = np.random.default_rng(5)
        n = h.shape[-1]
        normalize = keras.layers.BatchNormalization()
        h = normalize(h)
        statistics = rng.normal(size=(3, n))
        normalize.set_weights([*statistics, rng.uniform(0.5, 2, n)])
        h = keras.layers.ReLU()(h)
    if values:
        h = MarkedValues(0.05, -7.0)(h)
    return keras.Model(x, h), layer
