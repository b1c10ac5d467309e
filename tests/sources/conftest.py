import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tfq.graph.model import Graph, Model, Op, Quant, Signature, Tensor, options_type

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


class FloatFiles:
    """Small float `.tflite` models made without TensorFlow."""

    @staticmethod
    def dense(batch: int = 1, *, dynamic: bool = False, reshape: bool = True) -> Model:
        """x -> FULLY_CONNECTED -> RESHAPE to [batch, 2, 4], the batch baked in."""
        rng = np.random.default_rng(0)
        x = Tensor("x:0", (batch, 6), "float32")
        w = Tensor("w", (8, 6), "float32", rng.normal(size=(8, 6)).astype(np.float32))
        h = Tensor("functional_1/dense_1/Relu", (batch, 8), "float32")
        y = Tensor("StatefulPartitionedCall:0", (batch, 2, 4), "float32")
        target = Tensor("shape", (3,), "int32", np.array([batch, 2, 4], np.int32))
        if dynamic:
            x.signature, h.signature, y.signature = (-1, 6), (-1, 8), (-1, 2, 4)
            target.data = np.array([-1, 2, 4], np.int32)
        dense = options_type("FullyConnectedOptions")()
        dense.fusedActivationFunction = 1
        ops = [Op("FULLY_CONNECTED", [x, w, None], [h], dense)]
        if reshape:
            ops.append(Op("RESHAPE", [h, target], [y], options_type("ReshapeOptions")()))
        else:
            y = h
        signature = Signature("serving_default", {"x": x}, {"y": y})
        return Model([Graph("main", ops, [x], [y])], [signature])

    @staticmethod
    def two_signatures() -> Model:
        graphs, signatures = [], []
        for i, (key, name) in enumerate([("first", "NEG"), ("second", "ABS")]):
            x, y = Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
            op = Op(name, [x], [y], options_type(f"{name.title()}Options")())
            graphs.append(Graph(key, [op], [x], [y]))
            signatures.append(Signature(key, {"a": x}, {"b": y}, i))
        return Model(graphs, signatures)

    @staticmethod
    def annotated() -> Model:
        """x -> QUANTIZE -> DEQUANTIZE -> ABS: the ranges that training chose, still float."""
        x = Tensor("x", (1, 4), "float32")
        q = Tensor("q", (1, 4), "uint8", quant=Quant.per_tensor(0.1, 128))
        d, y = Tensor("d", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
        ops = [
            Op("QUANTIZE", [x], [q], options_type("QuantizeOptions")()),
            Op("DEQUANTIZE", [q], [d], options_type("DequantizeOptions")()),
            Op("ABS", [d], [y], options_type("AbsOptions")()),
        ]
        return Model([Graph("main", ops, [x], [y])])


@pytest.fixture(scope="session")
def files() -> type[FloatFiles]:
    return FloatFiles


@pytest.fixture(scope="session")
def tf_folder(tmp_path_factory) -> Path:
    """Models saved in each of TensorFlow's formats. Imports TensorFlow."""
    import keras
    import tensorflow as tf
    import tf_keras

    folder = tmp_path_factory.mktemp("tf_models")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="stem")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, name="depth")(x)
    block = keras.Sequential([layers.Flatten(), layers.Dense(3, name="head")], name="block")
    model = keras.Model(image, block(x))
    model.save(folder / "cnn.keras")
    model.export(folder / "cnn", verbose=False)
    (folder / "cnn" / "assets.extra").mkdir(exist_ok=True)
    np.savez(folder / "cnn/assets.extra/tfq_representative_data.npz", image=np.zeros((2, 8, 8, 3)))

    old_input = tf_keras.Input((8, 8, 4), name="pixels")
    old = tf_keras.Model(old_input, tf_keras.layers.DepthwiseConv2D(3, name="dw")(old_input))
    old.save(folder / "old.h5")

    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
        def f(self, x):
            return {"doubled": x * 2.0}

        @tf.function(
            input_signature=[tf.TensorSpec((None, 4), name="a"), tf.TensorSpec((None, 4), name="b")]
        )
        def g(self, a, b):
            return {"sum": a + b, "larger": tf.maximum(a, b)}

        @tf.function(input_signature=[tf.TensorSpec((None, None), name="x")])
        def h(self, x):
            return {"y": x * 2.0}

    two = Two()
    tf.saved_model.save(
        two, str(folder / "two"), signatures={"first": two.f, "second": two.g, "free": two.h}
    )

    graph = tf.Graph()
    with graph.as_default():
        a = tf.compat.v1.placeholder(tf.float32, (None, 4), name="a")
        tf.nn.relu(tf.matmul(a, tf.ones((4, 2))) - 1.0, name="out")
    (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return folder
