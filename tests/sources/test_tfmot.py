"""Models wrapped by tensorflow-model-optimization: its grids and its integers are kept."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from tfq.graph.numerics import quantize
from tfq.rewrite.prepare import prepare
from tfq.sources import memory, worker

pytestmark = pytest.mark.slow

L = tf_keras.layers


def convert(folder, model=None, source=None, kind="saved_model"):
    folder.mkdir(exist_ok=True)
    if model is not None:
        request = memory.save_object(model, memory.kind_of(model), folder / "object", 1)
    else:
        request = {"kind": kind, "path": str(source), "signature": None}
    request |= {"batch": 1, "shown": "the model", "scratch": str(folder / "scratch")}
    request["output"] = str(folder / "out.tflite")
    worker.run(request, worker.Stages(io.StringIO()))
    return (folder / "out.tflite").read_bytes()


def float_model():
    tf_keras.utils.set_random_seed(0)
    x = tf_keras.Input((8, 8, 3))
    h = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same", use_bias=False)(x)))
    a = L.DepthwiseConv2D(3, padding="same")(h)
    h = L.Add()([h, a])
    h = L.Concatenate()([h, L.MaxPooling2D(3, 1, padding="same")(h)])
    h = L.GlobalAveragePooling2D()(h)
    return tf_keras.Model(x, L.Dense(4)(h))


@pytest.fixture(scope="module")
def trained():
    model = tfmot.quantization.keras.quantize_model(float_model())
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8, 8, 3)).astype(np.float32)
    model.fit(x, rng.normal(size=(32, 4)).astype(np.float32), epochs=1, verbose=0)
    return model


def tensorflows_integers(model):
    """What TensorFlow's own fake quantization makes of each kernel, channels first."""
    found = {}
    for layer in model.layers:
        for w in layer.weights:
            if "kernel_min" not in w.name:
                continue
            low = w.numpy()
            high = next(v for v in layer.weights if "kernel_max" in v.name).numpy()
            kernel = next(v for v in layer.weights if v.name.split("/")[-1].endswith("kernel:0"))
            per_channel = low.ndim == 1
            fake = tf.quantization.fake_quant_with_min_max_vars
            if per_channel:
                fake = tf.quantization.fake_quant_with_min_max_vars_per_channel
            y = fake(kernel, low, high, num_bits=8, narrow_range=True).numpy()
            found[layer.name] = np.rint(y / ((high - low) / np.float32(254))).astype(int)
    return found


def shipped(content):
    prepared = prepare(content)
    grids = prepared.trained.grids
    found = {}
    for op in prepared.model.main.ops:
        for t in op.inputs:
            if t is not None and t.is_const and t.name in grids:
                found[op.name] = quantize(t.values(), grids[t.name], narrow=True).astype(int)
    return prepared, found


def test_integers_and_grids_are_kept(trained, tmp_path):
    prepared, found = shipped(convert(tmp_path / "a", trained))
    truth = tensorflows_integers(trained)
    conv = np.moveaxis(next(q for n, q in truth.items() if n.endswith("quant_conv2d")), 3, 0)
    signs = np.sign((found["CONV_2D"] * conv).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_array_equal(found["CONV_2D"], conv * signs)
    dense = next(q for n, q in truth.items() if "dense" in n)
    np.testing.assert_array_equal(found["FULLY_CONNECTED"], dense.T)
    grids = prepared.trained.grids
    for op in prepared.model.main.ops:
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "FULLY_CONNECTED"):
            assert op.outputs[0].name in grids, op.name
    assert not {"MUL"} & {op.name for op in prepared.model.main.ops}


def test_saved_model_and_h5_give_the_same(trained, tmp_path):
    _, wanted = shipped(convert(tmp_path / "a", trained))
    trained.save(tmp_path / "m", save_format="tf")
    _, found = shipped(convert(tmp_path / "b", source=tmp_path / "m"))
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in wanted.items()}
    trained.save(tmp_path / "m.h5")
    _, found = shipped(convert(tmp_path / "c", source=tmp_path / "m.h5", kind="h5"))
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in wanted.items()}


@pytest.mark.parametrize("how", ["prune", "cluster"])
def test_wrappers_of_sparsity_and_clustering(tmp_path, how):
    if how == "prune":
        model = tfmot.sparsity.keras.prune_low_magnitude(float_model())
    else:
        initial = tfmot.clustering.keras.CentroidInitialization.LINEAR
        model = tfmot.clustering.keras.cluster_weights(
            float_model(), number_of_clusters=4, cluster_centroids_init=initial
        )
    prepared, found = shipped(convert(tmp_path / "a", model))
    assert found == {}
    assert [op.name for op in prepared.model.main.ops][:2] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
