"""A two-layer network on digits with quantizers, built by hand."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from tfq.keras import quantizers
from tfq.keras.batch_norm import FreezableBatchNormalization


def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int32)


@keras.saving.register_keras_serializable("tfq_tests")
class QuantizedDense(keras.layers.Layer):
    """A dense layer whose kernel goes through a weight quantizer of 4 bits."""

    def __init__(self, units, weights, **kwargs):
        super().__init__(**kwargs)
        self.units, self.weights_name = units, weights
        self.quantizer = quantizers.get_weight_quantizer(weights, bits=4)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel", autocast=False)
        self.quantizer.build(self.kernel.shape)

    def call(self, x):
        return tf.matmul(x, tf.cast(self.quantizer(self.kernel), x.dtype))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "weights": self.weights_name}


def network(activations="moving_average", weights="minmax", norm=True):
    inputs = keras.Input((64,))
    x = quantizers.MovingAverage(name="entry")(inputs)
    x = QuantizedDense(32, weights, name="first")(x)
    if norm:
        x = FreezableBatchNormalization(name="norm")(x)
    x = keras.layers.ReLU()(x)
    x = quantizers.get_activation_quantizer(activations)(x)
    outputs = QuantizedDense(10, weights, name="second")(x)
    model = keras.Model(inputs, outputs)
    for owner, quantizer in quantizers.quantizers_of(model):
        if isinstance(quantizer, quantizers.WeightQuantizer):
            quantizer.initialize(owner.kernel.numpy())
    return model


def compiled(model, **options):
    model.compile(
        keras.optimizers.Adam(5e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model
