import numpy as np

from tfq.data import ArgSpec, open_data, synthetic

INPUTS = [
    ArgSpec("x", "x", (1, 1000), "float32"),
    ArgSpec("i", "i", (1, 1000), "int32"),
    ArgSpec("b", "b", (1, 1000), "bool"),
]


def test_values():
    source = synthetic(INPUTS, count=3)
    samples = list(source)
    assert source.synthetic
    assert "not calibrated" in source.description
    assert source.count == len(samples) == 3
    x, i, b = (np.concatenate([s.inputs[n] for s in samples]) for n in "xib")
    assert abs(x.mean()) < 0.1
    assert abs(x.std() - 1) < 0.1
    assert set(np.unique(i)) == {0, 1}
    assert b.dtype == bool


def test_same_every_time_and_by_name():
    first, second = (
        np.concatenate([s.inputs["x"] for s in open_data("synthetic", INPUTS, limit=4)])
        for _ in range(2)
    )
    assert first.shape == (4, 1000)
    np.testing.assert_array_equal(first, second)
    assert (next(iter(synthetic(INPUTS, seed=1))).inputs["x"][0] != first[0]).any()
