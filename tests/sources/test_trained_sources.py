"""Trained models in every form they come in: the same integers, and errors with a way out."""

import io

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf
from marked_layers import MarkedValues, network

from tfq.errors import ModelError
from tfq.graph.model import Model
from tfq.graph.numerics import quantize
from tfq.rewrite.prepare import prepare
from tfq.sources import compare, memory, tracing, worker

pytestmark = pytest.mark.slow

L = keras.layers


def convert(folder, model=None, source=None, kind="saved_model"):
    folder.mkdir(exist_ok=True)
    if model is not None:
        request = memory.save_object(model, memory.kind_of(model), folder / "object", 1)
    else:
        request = {"kind": kind, "path": str(source), "signature": None}
        request["allow_code"] = True  # The layers are registered in this process.
    request |= {"batch": 1, "shown": "the model", "scratch": str(folder / "scratch")}
    request["output"] = str(folder / "out.tflite")
    answer = worker.run(request, worker.Stages(io.StringIO()))
    return (folder / "out.tflite").read_bytes(), answer


def integers(content):
    """(op, integers, scales) of the weights, and the grids of everything computed."""
    prepared = prepare(content)
    grids = prepared.trained.grids
    weights, computed = [], []
    for op in prepared.model.main.ops:
        for t in op.inputs:
            if t is not None and t.is_const and t.name in grids:
                q = quantize(t.values(), grids[t.name], narrow=True)
                weights.append((op.name, q.tolist(), grids[t.name].scale))
        computed.append((op.name, grids.get(op.outputs[0].name)))
    return weights, computed, grids.get(prepared.model.main.inputs[0].name)


def conv(**kwargs):
    return network(L.Conv2D(6, 3, **kwargs), {"kernel": 3}, (6, 6, 4), norm=True)


def test_every_form_gives_the_same_integers(tmp_path):
    model, _ = conv()
    model.save(tmp_path / "m.keras")
    model.export(tmp_path / "exported", verbose=False)
    tf.saved_model.save(model, tmp_path / "saved")
    first, _ = convert(tmp_path / "a", model)
    wanted = integers(first)
    assert len(wanted[0]) == 1
    for i, (source, kind) in enumerate(
        [("m.keras", "keras"), ("exported", "saved_model"), ("saved", "saved_model")]
    ):
        content, answer = convert(tmp_path / str(i), source=tmp_path / source, kind=kind)
        assert integers(content) == wanted
        assert answer["checks"]["max_rel_diff"] < 0.1


def test_mixed_float16_gives_what_float32_gives(tmp_path):
    plain, _ = conv()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed, _ = conv()
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(plain.get_weights())
    wanted = integers(convert(tmp_path / "a", plain)[0])
    content, _ = convert(tmp_path / "b", mixed)
    assert integers(content) == wanted
    assert {t.dtype for t in Model.from_bytes(content).main.inputs} == {"float32"}
    mixed.save(tmp_path / "m.keras")
    content, _ = convert(tmp_path / "c", source=tmp_path / "m.keras", kind="keras")
    assert integers(content) == wanted
    assert mixed.layers[2].dtype_policy.name == "mixed_float16"  # The user's own is left alone.


def test_a_plain_mixed_float16_model_becomes_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        x = keras.Input((6, 6, 3))
        h = L.Conv2D(4, 3, activation="relu")(x)
        h = L.BatchNormalization()(h)
        h = L.Dense(3)(L.Flatten()(h))
        model = keras.Model(x, L.Softmax(dtype="float32")(h))
    finally:
        keras.config.set_dtype_policy("float32")
    content, answer = convert(tmp_path / "a", model)
    main = Model.from_bytes(content).main
    assert {t.dtype for t in main.tensors() if t.is_float} == {"float32"}
    assert not any(op.name in ("CUSTOM", "CAST") for op in main.ops)
    assert answer["checks"]["max_abs_diff"] < 1e-5


@pytest.mark.parametrize(
    ("scale", "message"), [(np.nan, "without a range"), (0.0, "collapsed"), (np.inf, "collapsed")]
)
@pytest.mark.parametrize("what", ["weights", "values"])
def test_a_range_that_is_none_names_its_layer(tmp_path, scale, message, what):
    x = keras.Input((4,))
    if what == "weights":
        model, layer = network(L.Dense(3), {"kernel": 1}, (4,))
        layer.steps["kernel"].assign(np.array([0.1, scale, 0.1], np.float32))
        name = layer.name
    else:
        layer = MarkedValues(scale, name="squeeze")
        model, name = keras.Model(x, layer(L.Dense(3)(x))), "squeeze"
    with pytest.raises(ModelError, match=message) as error:
        convert(tmp_path / "a", model)
    assert name in str(error.value)


def test_a_dropped_activation_shows_in_spite_of_the_grids(tmp_path, monkeypatch):
    """A converter's mistake is far below the steps' tolerance here: it shows without the grids."""
    model, _ = network(L.Dense(6), {"kernel": 1}, (5,))
    content, _ = convert(tmp_path / "a", model)
    entry = tracing.trace_keras(model, batch=1)
    wrong = Model.from_bytes(content)
    dense = next(op for op in wrong.main.ops if op.name == "FULLY_CONNECTED")
    weights = dense.inputs[1].values().copy()
    weights[0] *= 1.01
    dense.inputs[1].data = weights
    changed = wrong.to_bytes()
    bare = _bare(entry, tmp_path)
    compare.compare(entry, content, bare)
    with pytest.raises(ModelError, match="largest difference"):
        compare.compare(entry, changed, bare)


def _bare(entry, folder):
    from tfq.sources import convert_float

    return convert_float.convert(entry, folder)[1]
