"""What of a stream calibration sees, and what is kept of it."""

import numpy as np
import pytest
from small_models import Net

from tfq.convert import convert_model
from tfq.convert.samples import PROOF, Samples
from tfq.data import open_data
from tfq.errors import DataError
from tfq.graph.interface import read_interface

NET = Net()
MODEL = NET.model(NET.dense(NET.input(1, 4, name="x"), 3, out="y"))
X = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)


def opened(data):
    interface = read_interface(MODEL)
    return Samples(open_data(data, interface.inputs), interface)


def test_calibration_does_not_see_what_the_result_is_proven_with():
    data = opened(X)
    seen = np.concatenate([s["x"] for s in data.for_calibration()])
    unseen = np.concatenate([s["x"] for s in data.unseen])
    assert len(seen) == data.calibrated == data.runs == 600 - PROOF
    assert len(unseen) == data.proven == PROOF
    assert not set(map(bytes, seen)) & set(map(bytes, unseen))
    assert len(data.fit) == len(data.check) == 128
    assert {bytes(s["x"]) for s in data.fit + data.check} <= set(map(bytes, seen))


def test_without_calibration_enough_may_be_read_or_all():
    read = []

    def generator():
        for i, x in enumerate(X):
            read.append(i)
            yield x

    opened(generator).keep(few=True)
    assert max(read) < 599
    every, same = opened(generator), opened(generator)
    every.keep(few=False)
    assert (max(read), every.calibrated) == (599, 0)
    list(same.for_calibration())
    assert [bytes(s["x"]) for s in every.fit] == [bytes(s["x"]) for s in same.fit]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([{"zz": 1}] * 4, r"labels for 'zz', which is no output of the model.*outputs: y0\."),
        ([{"y0": 1, "y": 1}] * 4, r"'y0' and 'y' are of the same output, 'y0'"),
        ([{"y0": 1}, {"y0": 1}, 1, 1], r"sample 0 for 'y0', sample 2 of no output"),
        ([1, {"y0": 1}], r"sample 0 of no output, sample 1 for 'y0'"),
    ],
)
def test_labels_that_are_of_no_output_or_of_some_samples_only(labels, message):
    pairs = list(zip(X, labels, strict=False))
    with pytest.raises(DataError, match=message):
        convert_model(MODEL.to_bytes(), lambda: iter(pairs))


def test_labels_by_output_are_measured_in_a_conversion():
    labels = {"x0": X[:40], "y/y0": np.zeros(40, np.int64)}
    got = convert_model(MODEL.to_bytes(), labels).summary["accuracy"]
    assert (got["samples"], got["output"]) == (40, None)
