"""What TensorFlow's converter makes of Keras layers, rewritten: only ops with integer kernels."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tfq.graph.model import Model
from tfq.graph.optable import Kind, spec
from tfq.rewrite import rewrite
from tfq.runtime import Runner

pytestmark = pytest.mark.slow

_CONVERT = """
import pathlib, sys
import keras, tensorflow as tf
from keras import layers as L
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

class F(L.Layer):
    def __init__(self, f):
        super().__init__()
        self.f = f
    def call(self, x):
        return self.f(x)

MODELS = {
    "layer_norm": ((5, 16), [L.Dense(8), L.LayerNormalization()]),
    "group_norm": ((8, 8, 4), [L.Conv2D(8, 3), L.GroupNormalization(4)]),
    "rms_norm": ((5, 16), [L.RMSNormalization()]),
    "unit_norm": ((16,), [L.UnitNormalization()]),
    "conv3d": ((4, 8, 8, 2), [L.Conv3D(6, 3, padding="same"), L.BatchNormalization(), L.ReLU()]),
    "conv3d_transpose": ((4, 4, 4, 2), [L.Conv3DTranspose(3, 3, strides=2)]),
    "upsampling": ((8, 8, 4), [L.UpSampling2D(2), L.Conv2D(2, 3)]),
    "mobilenet": ((8, 8, 3), [
        L.Conv2D(8, 3, use_bias=False), L.BatchNormalization(), L.Activation("hard_silu"),
        L.ZeroPadding2D(((0, 1), (0, 1))), L.DepthwiseConv2D(3, 2), L.BatchNormalization(),
        L.PReLU(shared_axes=[1, 2]), L.GlobalAveragePooling2D(), L.Dense(3, "softmax")]),
    "separable1d": ((16, 4), [L.SeparableConv1D(6, 3), L.BatchNormalization(), L.ReLU()]),
    "prelu": ((8, 8, 4), [F(lambda x: tf.nn.relu(x) + tf.constant([.1, .2, .3, .4])
                            * (x - tf.abs(x)) * 0.5)]),
    "cumsum": ((8, 4), [F(lambda x: tf.cumsum(x, 1))]),
    "lrn": ((8, 8, 4), [F(lambda x: tf.nn.local_response_normalization(x, 2, 1., .1, .5))]),
    "softsign": ((8, 4), [F(lambda x: x / (1. + tf.abs(tf.reverse(x, [1]))))]),
    "sort": ((8, 4), [F(lambda x: tf.sort(x, -1))]),
}
for name, (shape, layers) in MODELS.items():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *layers])
    f = tf.function(model, input_signature=[tf.TensorSpec((1, *shape))]).get_concrete_function()
    f = convert_variables_to_constants_v2(f, lower_control_flow=False)
    data = tf.lite.TFLiteConverter.from_concrete_functions([f]).convert()
    (pathlib.Path(sys.argv[1]) / (name + ".tflite")).write_bytes(data)
"""

NAMES = [
    "layer_norm",
    "group_norm",
    "rms_norm",
    "unit_norm",
    "conv3d",
    "conv3d_transpose",
    "upsampling",
    "mobilenet",
    "separable1d",
    "prelu",
    "cumsum",
    "lrn",
    "softsign",
    "sort",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("keras")
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, str(out)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def integer(op):
    """Whether the op has an integer kernel, or is a function of one tensor and scalars."""
    row = spec(op.name)
    if row is None:
        return False
    if row.elementwise:
        computed = {t for t in op.inputs if t is not None and not t.is_const}
        constants = [t for t in op.inputs if t is not None and t.is_const]
        if len(computed) == 1 and all(t.size == 1 for t in constants):
            return True
    return row.kind is not Kind.FLOAT_ONLY and (row.kind is Kind.STRUCTURAL or bool(row.dtypes))


@pytest.mark.parametrize("name", NAMES)
def test_only_integer_ops_and_the_same_numbers(folder, name):
    data = (folder / f"{name}.tflite").read_bytes()
    model, _ = rewrite(Model.from_bytes(data))
    assert [op for op in model.main.ops if not integer(op)] == []
    before, after = Runner(data, kernels="builtin"), Runner(model.to_bytes(), kernels="builtin")
    rng = np.random.default_rng(3)
    for _ in range(3):
        values = {d["name"]: rng.normal(0, 2, d["shape"]).astype(np.float32) for d in before.inputs}
        want, got = before.run(values), after.run(values)
        assert list(want) == list(got)
        for key, w in want.items():
            np.testing.assert_allclose(got[key], w, rtol=1e-5, atol=1e-5 * (1 + np.abs(w).max()))


def test_sequences(folder):
    def names(name):
        model, _ = rewrite(Model.from_bytes((folder / f"{name}.tflite").read_bytes()))
        return [op.name for op in model.main.ops]

    norm = ["MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL"]
    assert names("layer_norm")[:8] == ["FULLY_CONNECTED", *norm]
    assert names("group_norm")[:9] == ["CONV_2D", "RESHAPE", *norm]
    assert names("unit_norm") == ["L2_NORMALIZATION"]
    assert names("prelu") == ["PRELU"]
    assert names("upsampling") == ["RESIZE_NEAREST_NEIGHBOR", "CONV_2D"]
    assert names("conv3d").count("CONV_2D") == 1
    assert names("mobilenet") == [
        "CONV_2D", "HARD_SWISH", "DEPTHWISE_CONV_2D", "PRELU", "MEAN", "FULLY_CONNECTED", "SOFTMAX"
    ]  # fmt: skip
