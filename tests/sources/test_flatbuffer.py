"""The `.tflite` path: no TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
from small_models import cnn

from tfq.errors import ModelError, UsageError
from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.runtime import Runner
from tfq.sources import load_source


def test_bytes_and_path_give_the_file_unchanged(files, tmp_path):
    content = files.dense().to_bytes()
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    for source in (content, path, str(path)):
        loaded = load_source(source)
        assert loaded.model == content
        assert (loaded.kind, loaded.signature) == ("tflite", "serving_default")
        assert loaded.layer_names == {"functional_1/dense_1/Relu": "dense_1"}
    assert load_source(path).path == str(path)
    assert load_source(content).path is None


def test_tensorflow_is_not_imported(files, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(files.dense(dynamic=True).to_bytes())
    code = (
        "import sys; from tfq.sources import load_source; load_source(sys.argv[1], batch=2);"
        "assert not {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_batch_is_set_everywhere_and_the_model_stays_the_same(files, dynamic, batch):
    original = files.dense(dynamic=dynamic)
    loaded = load_source(original.to_bytes(), batch=batch)
    model = Model.from_bytes(loaded.model)
    assert [t.shape[0] for t in model.main.tensors() if not t.is_const] == [batch] * 3
    assert all(t.signature is None for t in model.main.tensors())
    x = np.random.default_rng(1).normal(size=(batch, 6)).astype(np.float32)
    single = Runner(original.to_bytes())
    expected = np.concatenate([next(iter(single.run({"x:0": row[None]}).values())) for row in x])
    (got,) = Runner(loaded.model).run({"x:0": x}).values()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_shape_arithmetic_is_folded():
    x = Tensor("x", (1, 6), "float32", signature=(-1, 6))
    shape = Tensor("shape", (2,), "int32")
    y = Tensor("y", (1, 6), "float32", signature=(-1, 6))
    options = options_type("ShapeOptions")()
    options.outType = 2  # int32
    ops = [
        Op("SHAPE", [x], [shape], options),
        Op("RESHAPE", [x, shape], [y], options_type("ReshapeOptions")()),
    ]
    loaded = load_source(Model([Graph("main", ops, [x], [y])]).to_bytes(), batch=2)
    (op,) = Model.from_bytes(loaded.model).main.ops
    assert op.name == "RESHAPE"
    assert op.input(1).values().tolist() == [2, 6]


def test_a_batch_built_into_an_op_is_named():
    x = Tensor("x", (1, 6), "float32")
    target = Tensor("t", (2,), "int32", np.array([6, 1], np.int32))
    h, y = Tensor("h", (6, 1), "float32"), Tensor("y", (6, 1), "float32")
    ops = [
        Op("RESHAPE", [x, target], [h], options_type("ReshapeOptions")()),
        Op("ABS", [h], [y], options_type("AbsOptions")()),
    ]
    with pytest.raises(ModelError, match=r"RESHAPE with output 'h' has the old batch built in"):
        load_source(Model([Graph("main", ops, [x], [y])]).to_bytes(), batch=4)


def test_samples_that_mix_across_the_batch_are_noticed():
    """A sum over the batch runs at any batch, and means something else at each."""
    x = Tensor("x", (1, 6), "float32")
    axis = Tensor("axis", (1,), "int32", np.array([0], np.int32))
    s, y = Tensor("s", (1, 6), "float32"), Tensor("y", (1, 6), "float32")
    options = options_type("ReducerOptions")()
    options.keepDims = True
    ops = [
        Op("SUM", [x, axis], [s], options),
        Op("ADD", [x, s], [y], options_type("AddOptions")()),
    ]
    with pytest.raises(ModelError, match=r"something else with a batch of 4: output 'y'"):
        load_source(Model([Graph("main", ops, [x], [y])]).to_bytes(), batch=4)


def test_unknown_dimensions_besides_the_batch_are_refused(files):
    model = files.dense(reshape=False)
    model.main.inputs[0].signature = (-1, -1)
    with pytest.raises(ModelError, match=r"input 'x:0' has the shape \[\?, \?\].*static shape"):
        load_source(model.to_bytes())


def test_a_signature_selects_its_graph(files):
    content = files.two_signatures().to_bytes()
    second = load_source(content, signature="second")
    model = Model.from_bytes(second.model)
    assert second.signature == "second"
    assert [[op.name for op in g.ops] for g in model.graphs] == [["ABS"]]
    assert second.warnings == ()
    default = load_source(content)
    assert default.signature == "first"
    assert "also has 'second'" in default.warnings[0]
    with pytest.raises(UsageError, match=r"Did you mean 'second'"):
        load_source(content, signature="secnd")


def test_control_flow_keeps_its_graphs_when_a_signature_is_selected(files):
    model = files.two_signatures()
    branches = []
    for name in ("ABS", "NEG"):
        x, y = Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
        op = Op(name, [x], [y], options_type(f"{name.title()}Options")())
        branches.append(Graph(name, [op], [x], [y]))
    main = model.graphs[1]
    condition = Tensor("c", (1,), "bool", np.array([True]))
    options = options_type("IfOptions")()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 3, 2
    main.ops = [Op("IF", [condition, main.inputs[0]], [main.outputs[0]], options)]
    model.graphs += branches
    loaded = load_source(model.to_bytes(), signature="second")
    kept = Model.from_bytes(loaded.model)
    assert [[op.name for op in g.ops] for g in kept.graphs] == [["IF"], ["NEG"], ["ABS"]]
    x = np.array([[1, -2, 3, -4]], np.float32)
    (y,) = Runner(loaded.model).run({"x": x}).values()
    np.testing.assert_array_equal(y, -x)


def test_trained_ranges_are_float(files):
    content = files.annotated().to_bytes()
    assert load_source(content).model == content


def test_computing_on_integers_is_refused(files):
    model = files.annotated()
    quantize = model.main.ops[0]
    y = Tensor("y8", (1, 4), "uint8", quant=Quant.per_tensor(0.1, 128))
    softmax = Op("MAXIMUM", [quantize.outputs[0], quantize.outputs[0]], [y])
    softmax.options = options_type("MaximumMinimumOptions")()
    model.main.ops = [quantize, softmax]
    model.main.outputs = [y]
    with pytest.raises(ModelError, match=r"already quantized: it computes on .* MAXIMUM"):
        load_source(model.to_bytes())


@pytest.mark.parametrize("hybrid", [True, False])
def test_quantized_weights_are_refused(files, hybrid):
    model = files.dense(reshape=False)
    dense = model.main.ops[0]
    grid = Quant.per_tensor(0.02)
    weights = Tensor("w8", (8, 6), "int8", np.ones((8, 6), np.int8), grid)
    if hybrid:
        dense.inputs[1] = weights
    else:
        wide = Tensor("wide", (8, 6), "float32")
        model.main.ops.insert(
            0, Op("DEQUANTIZE", [weights], [wide], options_type("DequantizeOptions")())
        )
        dense.inputs[1] = wide
    what = "dynamic range" if hybrid else "weight-only"
    with pytest.raises(ModelError, match=f"already quantized.*{what}.*'w8'.*float model"):
        load_source(model.to_bytes())


def test_float16_weights_are_widened(files):
    model = files.dense(reshape=False)
    dense = model.main.ops[0]
    half = dense.input(1).values().astype(np.float16)
    wide = Tensor("wide", (8, 6), "float32")
    model.main.ops.insert(
        0,
        Op(
            "DEQUANTIZE",
            [Tensor("w16", (8, 6), "float16", half)],
            [wide],
            options_type("DequantizeOptions")(),
        ),
    )
    dense.inputs[1] = wide
    loaded = load_source(model.to_bytes())
    (op,) = Model.from_bytes(loaded.model).main.ops
    np.testing.assert_array_equal(op.input(1).values(), half.astype(np.float32))
    assert "float16" in loaded.warnings[0]


def test_shapes_that_no_op_computes_are_corrected():
    """An intermediate tensor and an output state others than LiteRT finds, and never looks at."""
    sound = Model.from_bytes(cnn())
    stated = {t.name: t.shape for t in sound.main.tensors()}
    assert load_source(cnn()).model == cnn()
    wrong = Model.from_bytes(cnn())
    by_name = {t.name: t for t in wrong.main.tensors()}
    by_name["conv"].shape, by_name["pooled"].shape = (1, 2, 3), (1, 6, 1)
    by_name["probabilities"].shape = (5,)
    loaded = Model.from_bytes(load_source(wrong.to_bytes()).model)
    assert {t.name: t.shape for t in loaded.main.tensors()} == stated
