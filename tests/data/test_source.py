import numpy as np
import pytest

from tfq.data import ArgSpec, open_data
from tfq.errors import DataError, UsageError

BATCH4 = ArgSpec("x", "x", (4, 2), "float32")
ONE = ArgSpec("x", "x", (1, 2), "float32")
X = np.arange(20.0).reshape(10, 2)


def test_batches_are_consecutive_and_the_last_repeats():
    source = open_data({"x": X, "y": np.arange(10)}, [BATCH4])
    samples = list(source)
    assert source.count == len(samples) == 3
    assert [s.index for s in samples] == [0, 1, 2]
    assert [s.real for s in samples] == [4, 4, 2]
    np.testing.assert_array_equal(samples[1].inputs["x"], X[4:8])
    np.testing.assert_array_equal(samples[2].inputs["x"], X[[8, 9, 8, 9]])
    assert [s.label.tolist() for s in samples] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_of_the_data_need_not_be_those_of_the_model():
    def generator():
        yield [X[:3]]
        yield [X[3:9]]
        yield [X[9]]

    samples = list(open_data(generator, [BATCH4]))
    np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in samples])[:10], X)
    assert [s.real for s in samples] == [4, 4, 2]


@pytest.mark.parametrize("limit", [1, 3, 10, 99])
def test_limit_reads_no_more_than_it_needs(limit):
    pulled = []

    def generator():
        for i, row in enumerate(X):
            pulled.append(i)
            yield [row]

    source = open_data(generator(), [ONE], limit=limit)
    assert len(list(source)) == min(limit, 10)
    assert len(pulled) == min(limit, 10)


def test_limit_counts_samples_not_batches():
    source = open_data(X, [BATCH4], limit=5)
    assert source.count == 2
    assert [s.real for s in source] == [4, 1]
    assert source.description == "data (ndarray), 5 samples"


def test_limit_must_be_positive():
    with pytest.raises(UsageError, match="Received: 0"):
        open_data(X, [ONE], limit=0)


def test_generator_is_consumed_once_and_says_so():
    source = open_data(([row] for row in X), [ONE])
    assert not source.repeatable
    assert len(list(source)) == 10
    with pytest.raises(DataError, match="only once"):
        iter(source)


def test_streaming_is_lazy():
    alive = []

    def generator():
        for i in range(1000):
            alive.append(i)
            yield [np.zeros(2)]

    iterator = iter(open_data(generator(), [ONE]))
    for _ in range(5):
        next(iterator)
    assert len(alive) == 5


def test_a_buffer_that_the_generator_reuses_is_copied():
    buffer = np.zeros((1, 2), np.float32)

    def generator():
        for i in range(3):
            buffer[:] = i
            yield [buffer]

    samples = list(open_data(generator, [ONE]))
    assert [s.inputs["x"][0, 0] for s in samples] == [0, 1, 2]


def test_exact_shape_dtype_and_layout():
    sample = next(iter(open_data(np.asfortranarray(X), [ONE])))
    value = sample.inputs["x"]
    assert (value.shape, value.dtype, value.flags.c_contiguous) == ((1, 2), np.float32, True)
    assert sample.label is None
    assert sample.nbytes == 8


def test_a_label_missing_later():
    with pytest.raises(DataError, match=r"Sample 1 of .* has no label"):
        list(open_data(iter([(X[0], 1), X[1]]), [ONE]))


WAVE = ArgSpec("x", "x", (6,), "float32")
WAVES = np.arange(24.0, dtype=np.float32).reshape(4, 6)
LABELS = np.arange(4)


@pytest.mark.parametrize(
    "data",
    [
        (WAVES, LABELS),
        {"x": WAVES, "y": LABELS},
        [WAVES, LABELS],
        lambda: zip(WAVES, LABELS, strict=True),
        lambda: iter([(WAVES[:3], LABELS[:3]), (WAVES[3], 3)]),
    ],
)
def test_a_vector_of_a_fixed_length_is_one_sample(data, tmp_path):
    for form in (data, tmp_path / "d.npz"):
        if form is not data:
            np.savez(form, x=WAVES, y=LABELS)
        source = open_data(form, [WAVE])
        assert source.count in (4, None)
        samples = list(source)
        assert [s.inputs["x"].tolist() for s in samples] == WAVES.tolist()
        assert [s.label.tolist() for s in samples] == [[i] for i in range(4)]
        assert {s.real for s in samples} == {1}
        assert len(list(open_data(form, [WAVE], limit=2))) == 2


@pytest.mark.parametrize(
    ("inputs", "arrays"),
    [
        ([WAVE], {"x": WAVES[1], "y": [7]}),
        ([WAVE], {"x": WAVES[1:2], "y": [7]}),
        ([WAVE, ArgSpec("z", "z", (1, 3), "float32")], {"x": WAVES[1], "z": [[1, 2, 3]], "y": [7]}),
        ([ArgSpec("x", "x", (6,), "float32", False)], {"x": WAVES[1], "y": [7]}),
    ],
)
def test_the_array_of_one_sample_without_a_batch(inputs, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    for data in (arrays, tmp_path / "d.npz"):
        source = open_data(data, inputs)
        assert source.description.endswith(", 1 sample")
        (sample,) = source
        for spec in inputs:
            assert sample.inputs[spec.name].shape == spec.shape
        np.testing.assert_array_equal(sample.inputs["x"], WAVES[1])
        assert sample.label.tolist() == [7]
        (block,) = open_data(data, inputs).blocks(3)
        assert block.decode().inputs["x"].tolist() == WAVES[1:2].tolist()
