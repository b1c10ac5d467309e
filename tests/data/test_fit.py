import numpy as np
import pytest

from tfq.data.fit import Element, Fitter, bind, convert
from tfq.errors import DataError
from tfq.graph.interface import ArgSpec

IMAGE = ArgSpec("x", "serving_default_x:0", (1, 28, 28, 1), "float32")


def fit(value, spec=IMAGE, label=None):
    return list(Fitter([spec]).rows(Element({spec.name: value}, label), 0, "data"))


@pytest.mark.parametrize(
    ("received", "rows"),
    [((28, 28, 1), 1), ((28, 28), 1), ((1, 28, 28, 1), 1), ((5, 28, 28, 1), 5), ((5, 28, 28), 5)],
)
def test_shapes_that_fit(received, rows):
    value = np.random.default_rng(0).normal(size=received).astype(np.float32)
    result = fit(value)
    assert [r.inputs["x"].shape for r in result] == [(28, 28, 1)] * rows
    np.testing.assert_array_equal(np.ravel([r.inputs["x"] for r in result]), value.ravel())


@pytest.mark.parametrize("received", [(27, 28, 1), (28, 28, 3), (784,), (1, 1, 28, 28, 1), ()])
def test_shapes_that_do_not_fit(received):
    with pytest.raises(DataError, match=r"takes samples of shape \(28, 28, 1\).*Received: \("):
        fit(np.zeros(received))


def test_open_dimension_fits_any_size():
    rows = fit(np.zeros((7, 3)), ArgSpec("x", "x", (1, -1, 3), "float32"))
    assert rows[0].inputs["x"].shape == (7, 3)


def test_inputs_without_a_common_batch_are_taken_whole():
    inputs = [
        ArgSpec("a", "a", (1, 4), "float32"),
        ArgSpec("b", "b", (3,), "int32"),
        ArgSpec("c", "c", (), "float32"),
    ]
    fitter = Fitter(inputs)
    element = Element({"a": np.ones(4), "b": [1, 2, 3], "c": 0.5})
    (row,) = fitter.rows(element, 0, "data")
    assert [row.inputs[n].shape for n in "abc"] == [(1, 4), (3,), ()]


def test_scalar_per_sample():
    assert len(fit(np.arange(4.0), ArgSpec("x", "x", (1,), "float32"))) == 4


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([0.1, 2e30]), "float32"),
        (np.array([0, 255], np.uint8), "float32"),
        (np.array([1.0, -3.0]), "int32"),
        (np.array([True, False]), "float32"),
        (np.array([0, 1]), "bool"),
        (np.array([0, 127], np.uint8), "int8"),
    ],
)
def test_conversion_keeps_values(value, dtype):
    result = convert(value, dtype, "here")
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, value.astype(dtype))


def test_conversion_copies():
    value = np.zeros(3, np.float32)
    result = convert(value, "float32", "here")
    value[:] = 1
    assert not result.any()


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.array([1.5]), "int32", "takes integers.*float64 1.5"),
        (np.array([300]), "uint8", "from 0 to 255.*Received: 300"),
        (np.array([128], np.uint8), "int8", "from -128 to 127"),
        (np.array([2]), "bool", "from 0 to 1"),
        (np.array([1e300]), "float32", "too large for float32"),
        (np.array([np.nan, 1, np.inf, -np.inf]), "float32", r"3 of 4 .*1 NaN, 2 infinite"),
        (np.array([np.nan]), "int32", "1 NaN"),
    ],
)
def test_conversion_refuses(value, dtype, message):
    with pytest.raises(DataError, match=message):
        convert(value, dtype, "here")


@pytest.mark.parametrize(
    "value", [np.zeros((28, 28, 1), complex), np.full((28, 28, 1), "a"), [[1, 2], [3]], object()]
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(DataError, match="input 'x'"):
        fit(value)


def test_not_finite_names_the_sample_within_a_batch():
    value = np.zeros((5, 28, 28, 1))
    value[3, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="Sample 3 of data: input 'x' has 1 of 784"):
        fit(value)


def test_labels_of_a_batch():
    assert [int(r.label) for r in fit(np.zeros((3, 28, 28, 1)), label=[4, 5, 6])] == [4, 5, 6]
    (row,) = fit(np.zeros((1, 28, 28, 1)), label=np.arange(10))  # One-hot, without batch.
    assert row.label.shape == (10,)
    with pytest.raises(DataError, match="3 samples needs 3 labels"):
        fit(np.zeros((3, 28, 28, 1)), label=[1, 2])


def test_different_numbers_of_samples():
    inputs = [ArgSpec(n, n, (1, 2), "float32") for n in "ab"]
    element = Element({"a": np.zeros((3, 2)), "b": np.zeros((2, 2))})
    with pytest.raises(DataError, match="'a' 3, 'b' 2"):
        list(Fitter(inputs).rows(element, 0, "data"))


@pytest.mark.parametrize("dtype", ["string", "resource", "complex64"])
def test_inputs_that_numbers_cannot_fill(dtype):
    with pytest.raises(DataError, match=dtype):
        Fitter([ArgSpec("x", "x", (1, 2), dtype)])


TWO = [
    ArgSpec("image", "serving_default_image:0", (1, 2), "float32"),
    ArgSpec("mask", "serving_default_mask:0", (1, 2), "float32"),
]


@pytest.mark.parametrize(
    "keys",
    [
        ("image", "mask"),
        ("serving_default_image:0", "serving_default_mask:0"),
        ("serving_default_image", "mask"),
    ],
)
def test_bind_knows_inputs_by_every_name(keys):
    bound, label = bind([*keys, "y"], TWO, "data")
    assert bound == dict(zip(("image", "mask"), keys, strict=True))
    assert label == "y"


def test_bind_prefers_names_over_tensor_names():
    inputs = [ArgSpec("a", "b:0", (1,), "float32"), ArgSpec("b", "a:0", (1,), "float32")]
    assert bind(["a", "b"], inputs, "data")[0] == {"a": "a", "b": "b"}


def test_bind_an_input_called_y_is_no_label():
    inputs = [ArgSpec(n, n, (1,), "float32") for n in "xy"]
    assert bind(["x", "y"], inputs, "data") == ({"x": "x", "y": "y"}, None)


def test_bind_the_only_array():
    assert bind(["anything", "y"], [IMAGE], "data") == ({"x": "anything"}, "y")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["image", "maks"], "no data for the model's input 'mask'.*Did you mean 'maks'"),
        (["image"], "it has nothing else"),
        (["image", "mask", "extra"], "'extra', which is no input"),
        (["y"], "holds labels"),
    ],
)
def test_bind_refuses(keys, message):
    with pytest.raises(DataError, match=message):
        bind(keys, TWO, "data")
