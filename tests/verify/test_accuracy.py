"""Top-1 accuracy of both models."""

import numpy as np
import pytest
from small_models import Net, plan_of

from tfq.data.labels import rows_of
from tfq.data.source import Sample
from tfq.errors import DataError
from tfq.graph.interface import read_interface
from tfq.graph.model import Model
from tfq.verify import accuracy
from tfq.verify.accuracy import Accuracy


def measure_accuracy(source, emitted, given, **options):
    """By the names of the model's signature."""
    outputs = read_interface(Model.from_bytes(source)).outputs
    return accuracy.measure_accuracy(source, emitted, given, outputs, **options)


def identity(classes, *, batch=1, scale=1.0, softmax=False):
    """A classifier whose answer is its largest input."""
    net = Net()
    x = net.input(batch, classes, name="x")
    y = net.dense(x, classes, weights=np.eye(classes) * scale, bias=np.zeros(classes), out="y")
    return net.bytes(net.softmax(y, out="p") if softmax else y)


def samples(x, labels, *, real=1):
    """Pairs as a run of the converter gives them."""
    out = []
    for i, (value, label) in enumerate(zip(x, labels, strict=True)):
        value = np.asarray(value, np.float32)
        if isinstance(label, dict):
            label = rows_of({name: np.asarray(v)[np.newaxis] for name, v in label.items()})
        label = None if label is None else np.atleast_1d(label)
        out.append(({"x": value}, Sample(i, {"x": value}, label, real)))
    return out


def one_hot(answers, classes=4):
    return [np.eye(classes, dtype=np.float32)[[a]] * 3 for a in answers]


@pytest.mark.parametrize("softmax", [False, True])
def test_right_answers_are_counted(softmax):
    source = identity(4, softmax=softmax)
    x = one_hot([0, 1, 2, 3, 3])
    emitted = plan_of(source, [{"x": v} for v in x]).emit().model.to_bytes()
    got = measure_accuracy(source, emitted, samples(x, [0, 1, 2, 3, 0]))
    assert got == Accuracy(5, 0.8, 0.8, 1.0)


def test_models_that_disagree():
    source, opposite = identity(4), identity(4, scale=-1.0)
    x = one_hot([0, 1, 2])
    emitted = plan_of(opposite, [{"x": v} for v in x]).emit().model.to_bytes()
    got = measure_accuracy(source, emitted, samples(x, [0, 1, 2]))
    assert (got.float_top1, got.top1, got.agreement) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("squash", "cut"), [(True, 0.5), (False, 0.0)])
def test_one_output_is_yes_or_no(squash, cut):
    net = Net()
    y = net.dense(net.input(1, 1, name="x"), 1, weights=[[2.0]], bias=[0.0], out="y")
    source = net.bytes(net.op("LOGISTIC", y, out="p") if squash else y)
    x = [np.array([[v]], np.float32) for v in (-2, -1, 1, 2)]
    emitted = plan_of(source, [{"x": v} for v in x]).emit().model.to_bytes()
    got = measure_accuracy(source, emitted, samples(x, [0, 0, 1, 0]))
    assert got == Accuracy(4, 0.75, 0.75, 1.0)
    assert cut in (0.0, 0.5)


def test_the_last_batch_counts_its_real_samples_only():
    source = identity(4, batch=3)
    x = [np.concatenate(one_hot([0, 1, 2])), np.concatenate(one_hot([3, 3, 3]))]
    emitted = plan_of(source, [{"x": v} for v in x]).emit().model.to_bytes()
    full = samples(x[:1], [np.array([0, 1, 2])], real=3)
    last = samples(x[1:], [np.array([3])], real=1)
    assert measure_accuracy(source, emitted, full + last) == Accuracy(4, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "labels",
    [
        [None, None],
        [0.5, 0.5],  # a regression
        [4, 0],  # no such class
        [-1, 0],
        [np.array([0, 1]), np.array([1, 2])],  # not one a sample
    ],
)
def test_what_is_no_classification_has_no_accuracy(labels):
    source = identity(4)
    x = one_hot([0, 1])
    emitted = plan_of(source, [{"x": v} for v in x]).emit().model.to_bytes()
    assert measure_accuracy(source, emitted, samples(x, labels)) is None


def test_two_outputs_or_maps_have_no_accuracy():
    net = Net()
    x = net.input(1, 4, name="x")
    source = net.bytes(net.dense(x, 4, out="a"), net.dense(x, 4, out="b"))
    values = one_hot([0])
    emitted = plan_of(source, [{"x": v} for v in values]).emit().model.to_bytes()
    assert measure_accuracy(source, emitted, samples(values, [0])) is None
    net = Net()
    source = net.bytes(net.conv(net.input(1, 4, 4, 2, name="x"), 3, out="y"))
    emitted = plan_of(source).emit().model.to_bytes()
    assert measure_accuracy(source, emitted, []) is None


def test_no_samples_no_accuracy():
    source = identity(4)
    emitted = plan_of(source, [{"x": one_hot([0])[0]}]).emit().model.to_bytes()
    assert measure_accuracy(source, emitted, []) is None


def test_progress_counts_samples():
    source = identity(4)
    x = one_hot([0, 1, 2])
    emitted = plan_of(source, [{"x": v} for v in x]).emit().model.to_bytes()
    seen = []
    measure_accuracy(source, emitted, samples(x, [0, 1, 2]), progress=seen.append)
    assert seen == [1, 2, 3]


def two_outputs():
    net = Net()
    x = net.input(1, 4, name="x")
    same = {"weights": np.eye(4), "bias": np.zeros(4)}
    return net.bytes(net.dense(x, 4, **same, out="a"), net.dense(x, 4, **same, out="b"))


@pytest.mark.parametrize(
    ("labels", "output"),
    [
        ([{"y1": 0}, {"y1": 2}], "y1"),
        ([{"b": 0}, {"b": 2}], "y1"),  # The tensor's name.
        ([{"y0": 0.5, "y1": 0}, {"y0": 0.5, "y1": 2}], "y1"),
        ([{"y0": [1, 2], "y1": 0}, {"y0": [1, 2], "y1": 2}], "y1"),
        ([{"y0": 1, "y1": 0}, {"y0": 1, "y1": 2}], None),  # Which of the two?
        ([{"y1": 0.5}, {"y1": 0.5}], None),
        ([{"y1": 0}, {"y1": 9}], None),
    ],
)
def test_labels_by_output_say_which_is_measured(labels, output):
    source, x = two_outputs(), one_hot([0, 1])
    emitted = plan_of(source, [{"x": v} for v in x]).emit().model.to_bytes()
    got = measure_accuracy(source, emitted, samples(x, labels))
    assert got == (output and Accuracy(2, 0.5, 0.5, 1.0, output))


def test_the_only_output_may_be_named():
    source, x = identity(4), one_hot([0, 1])
    emitted = plan_of(source, [{"x": v} for v in x]).emit().model.to_bytes()
    got = measure_accuracy(source, emitted, samples(x, [{"y0": 0}, {"y0": 2}]))
    assert got == Accuracy(2, 0.5, 0.5, 1.0)
    with pytest.raises(DataError, match=r"labels for 'zz', which is no output of the model.*: y0"):
        measure_accuracy(source, emitted, samples(x, [{"zz": 0}, {"zz": 2}]))
