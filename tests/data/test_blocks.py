"""`blocks` must give what iterating gives, for every kind of source."""

import pickle

import numpy as np
import pytest

from tfq.data import ArgSpec, open_data, synthetic
from tfq.errors import DataError, UsageError

ONE = ArgSpec("x", "x", (1, 2), "float32")
BATCH4 = ArgSpec("x", "x", (4, 2), "float32")
A = ArgSpec("a", "a", (1, 2), "float32")
B = ArgSpec("b", "b", (1, 3), "int32")
WHOLE = (ArgSpec("a", "a", (1, 2), "float32"), ArgSpec("b", "b", (3,), "float32"))
X = np.arange(20.0).reshape(10, 2)
X3 = np.arange(30.0).reshape(10, 3)
Y = np.arange(10)


def rows_of(source):
    """Input rows by name and labels, as iterating gives them."""
    inputs, labels = {}, []
    for sample in source:
        batched = source._fitter.batched
        for name, array in sample.inputs.items():
            rows = array[: sample.real] if batched else array[np.newaxis]
            inputs.setdefault(name, []).extend(rows)
        labels.extend([] if sample.label is None else sample.label)
    return inputs, labels


def check(make, rows, count=None):
    """Compares the blocks of one `make()` with the samples of another."""
    inputs, labels = rows_of(make())
    source = make()
    blocks = [pickle.loads(pickle.dumps(block)) for block in source.blocks(rows)]
    total = len(next(iter(inputs.values())))
    assert count in (None, total)
    assert [b.start for b in blocks] == list(range(0, total, rows))
    assert [b.rows for b in blocks] == [min(rows, total - b.start) for b in blocks]
    assert all(b.nbytes > 0 for b in blocks)
    decoded = [block.decode() for block in blocks]
    for name, expected in inputs.items():
        for block, part in zip(blocks, decoded, strict=True):
            assert len(part.inputs[name]) == block.rows
            assert part.inputs[name].flags.c_contiguous
            assert part.inputs[name].dtype == expected[0].dtype
        got = [row for part in decoded for row in part.inputs[name]]
        assert [g.tobytes() for g in got] == [e.tobytes() for e in expected]
    if not source.has_labels:
        assert all(part.labels is None for part in decoded)
        return
    got = [label for part in decoded for label in part.labels]
    assert len(got) == len(labels) == total
    for have, want in zip(got, labels, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 99])
@pytest.mark.parametrize("limit", [None, 1, 7, 10])
@pytest.mark.parametrize("spec", [ONE, BATCH4])
@pytest.mark.parametrize(
    "data",
    [
        X,
        np.asfortranarray(X),
        X[:, None],
        X.reshape(5, 2, 2),
        np.asfortranarray(X.reshape(5, 2, 2)),
        X.tolist(),
        X.astype(np.uint8),
        (X, Y),
        {"x": X, "y": X3},
        {"x": X.reshape(5, 2, 2), "y": Y.reshape(5, 2)},
        {"x": X[:, None], "y": Y},
        {"x": X[:, None], "y": Y[:, None]},
        {"x": X[:, None], "y": X3},
        lambda: iter(X),
        lambda: zip(X, Y, strict=True),
        lambda: (X[i : i + 4] for i in range(0, 10, 4)),
        lambda: ((X[i : i + 3], Y[i : i + 3]) for i in range(0, 10, 3)),
        lambda: (X[i].astype(t) for i, t in enumerate("fdihbBfffd")),
    ],
)
def test_blocks_equal_iteration(data, spec, limit, rows):
    check(lambda: open_data(data, [spec], limit=limit), rows, limit or 10)
