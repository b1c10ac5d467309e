"""From a marked Keras layer to its integers: for every kind of layer those of training."""

import io

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
from marked_layers import network

from tfq.graph.numerics import quantize
from tfq.rewrite.prepare import prepare
from tfq.sources import memory, worker

pytestmark = pytest.mark.slow

L = keras.layers


def convert(model, folder, source=None, kind="keras"):
    """The float file that `load_source` would make, in this process."""
    if source is None:
        request = memory.save_object(model, "keras_object", folder / "object", 1)
    else:
        request = {"kind": kind, "path": str(source), "signature": None}
    request |= {"batch": 1, "shown": "the model", "scratch": str(folder / "scratch")}
    request["output"] = str(folder / "out.tflite")
    answer = worker.run(request, worker.Stages(io.StringIO()))
    return (folder / "out.tflite").read_bytes(), answer


def shipped(prepared):
    """Integers and scales of every constant with a trained grid, by the op that reads it."""
    found = []
    for op in prepared.model.main.ops:
        for t in op.inputs:
            if t is not None and t.is_const and t.name in prepared.trained.grids:
                grid = prepared.trained.grids[t.name]
                found.append((op, quantize(t.values(), grid, narrow=True), grid, t.values()))
    return found


def move(axis):
    return lambda q: np.moveaxis(q, axis, 0)


# name: layer, input, {weight: axis of its scales}, BatchNormalization, the op, its arrangement.
KINDS = {
    "conv": (L.Conv2D, (8, 3), (6, 6, 4), {"kernel": 3}, True, "CONV_2D", move(3)),
    "per_tensor": (L.Conv2D, (8, 3), (6, 6, 4), {"kernel": -1}, False, "CONV_2D", move(3)),
    "per_tensor_norm": (L.Conv2D, (8, 3), (6, 6, 4), {"kernel": -1}, True, "CONV_2D", move(3)),
    "conv1d": (L.Conv1D, (8, 3), (8, 4), {"kernel": 2}, True, "CONV_2D",
               lambda q: np.moveaxis(q, 2, 0)[:, None]),
    "transpose": (L.Conv2DTranspose, (8, 3), (4, 4, 3), {"kernel": 2}, True, "TRANSPOSE_CONV",
                  move(2)),
    "depthwise": (L.DepthwiseConv2D, (3,), (6, 6, 4), {"kernel": 2}, True, "DEPTHWISE_CONV_2D",
                  lambda q: q.reshape(1, 3, 3, 4)),
    "dense": (L.Dense, (8,), (5,), {"kernel": 1}, False, "FULLY_CONNECTED", move(1)),
    "dense_3d": (L.Dense, (8,), (3, 5), {"kernel": 1}, False, "FULLY_CONNECTED", move(1)),
    "conv3d": (L.Conv3D, (8, 3), (4, 5, 5, 2), {"kernel": 4}, False, "CONV_2D",
               lambda q: q.transpose(4, 1, 2, 0, 3).reshape(8, 3, 3, 6)),
    "conv3d_transpose": (L.Conv3DTranspose, (4, 2), (3, 3, 3, 2), {"kernel": 3}, False,
                         "TRANSPOSE_CONV",
                         lambda q: q.transpose(3, 1, 2, 0, 4).reshape(4, 2, 2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_integers_are_those_of_training(name, tmp_path):
    make, arguments, shape, axes, norm, op_name, arranged = KINDS[name]
    model, layer = network(make(*arguments), axes, shape, norm=norm)
    content, answer = convert(model, tmp_path)
    assert answer["checks"]["max_abs_diff"] <= 0.05 + 1e-6  # One step of the output.
    ((op, q, grid, _),) = shipped(prepare(content))
    assert op.name == op_name
    truth = arranged(layer.integers()).astype(np.int64)
    if norm:  # Negative factors turn signs; the rows are compared up to that.
        axis = grid.axis
        signs = np.sign((q * truth).sum(axis=tuple(i for i in range(q.ndim) if i != axis)))
        assert set(signs) == {-1, 1}
        truth = truth * signs.reshape([-1 if i == axis else 1 for i in range(q.ndim)])
    else:
        np.testing.assert_array_equal(
            np.unique(np.float32(grid.scale)), np.unique(layer.steps["kernel"].numpy())
        )
    np.testing.assert_array_equal(q, truth)
    assert not {"MUL", "ADD"} & {o.name for o in prepare(content).model.main.ops}


def test_depthwise_with_a_multiplier(tmp_path):
    layer = L.DepthwiseConv2D(3, depth_multiplier=2)
    model, marked = network(layer, {"kernel": -1}, (6, 6, 4))
    content, _ = convert(model, tmp_path)
    ((op, q, grid, _),) = shipped(prepare(content))
    assert (op.name, len(grid.scale)) == ("DEPTHWISE_CONV_2D", 1)
    np.testing.assert_array_equal(q, marked.integers().reshape(1, 3, 3, 8))


def test_groups(tmp_path):
    model, marked = network(L.Conv2D(8, 3, groups=2), {"kernel": 3}, (6, 6, 4))
    content, _ = convert(model, tmp_path)
    ((op, q, _, _),) = shipped(prepare(content))
    np.testing.assert_array_equal(q, np.moveaxis(marked.integers(), 3, 0))
    assert op.name == "CONV_2D"


@pytest.mark.parametrize(
    ("equation", "output", "shape", "axis", "arranged"),
    [
        ("abc,cd->abd", (None, 8), (5, 4), 1, lambda q: q.T),
        # The scales run along one of the two dimensions of the result.
        ("abc,cde->abde", (None, 2, 8), (5, 4), 2, lambda q: q.reshape(4, 16).T),
        ("abcd,cde->abe", (None, 8), (5, 4, 3), 2, lambda q: q.reshape(12, 8).T),
    ],
)
def test_einsum_dense(tmp_path, equation, output, shape, axis, arranged):
    layer = L.EinsumDense(equation, output, activation="relu")
    model, marked = network(layer, {"kernel": axis}, shape)
    content, _ = convert(model, tmp_path)
    prepared = prepare(content)
    ((op, q, _, _),) = shipped(prepared)
    assert op.name == "FULLY_CONNECTED"
    np.testing.assert_array_equal(q, arranged(marked.integers()))
    assert op.options.fusedActivationFunction == 1


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_dense_keeps_bias_and_activation_fused(tmp_path, activation, shape):
    layer = L.Dense(6, activation=activation, bias_initializer="random_normal")
    model, _ = network(layer, {"kernel": 1}, shape)
    content, _ = convert(model, tmp_path)
    ops = [op for op in prepare(content).model.main.ops if op.name != "RESHAPE"]
    assert [op.name for op in ops] == ["FULLY_CONNECTED"]
    assert ops[0].inputs[2].values().any()
    assert ops[0].options.fusedActivationFunction in (1, 3)


@pytest.mark.parametrize("make", [L.LSTM, L.GRU, L.SimpleRNN])
def test_recurrent_layers_unrolled(tmp_path, make):
    axes = {"cell.kernel": 1, "cell.recurrent_kernel": 1}
    model, marked = network(make(6), axes, (4, 5))
    content, _ = convert(model, tmp_path)
    found = {q.tobytes(): op for op, q, _, _ in shipped(prepare(content))}
    assert set(found) == {marked.integers(path).T.tobytes() for path in axes}


@pytest.mark.parametrize("bits", [4, 2])
def test_fewer_bits(tmp_path, bits):
    model, marked = network(L.Dense(8), {"kernel": 1}, (6,), bits=bits, shrink=0.7)
    content, _ = convert(model, tmp_path)
    ((_, q, grid, _),) = shipped(prepare(content))
    assert grid.dtype == f"int{bits}"
    np.testing.assert_array_equal(q, marked.integers().T)


def test_an_embedding_keeps_the_grid_of_its_table(tmp_path):
    model, marked = network(
        L.Embedding(10, 8), {"embeddings": -1}, (5,), dtype="int32", values=False
    )
    content, _ = convert(model, tmp_path)
    prepared = prepare(content)
    ((op, q, grid, _),) = shipped(prepared)
    assert op.name == "GATHER"
    np.testing.assert_array_equal(q, marked.integers("embeddings"))
    assert prepared.trained.grids[op.outputs[0].name] == grid


def test_one_layer_called_twice(tmp_path):
    keras.utils.set_random_seed(0)
    from marked_layers import MarkedValues, MarkedWeights

    x = keras.Input((6,))
    layer = MarkedWeights(L.Dense(6), {"kernel": 1})
    h = MarkedValues(0.02)(layer(MarkedValues()(x)))
    y = MarkedValues(0.01)(layer(h))
    content, _ = convert(keras.Model(x, y), tmp_path)
    found = shipped(prepare(content))
    assert len(found) == 2
    for _, q, _, _ in found:
        np.testing.assert_array_equal(q, layer.integers().T)
