"""Classification: answers, hits and labels, against scikit-learn and by hand."""

import pickle

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from tests.evaluate.metrics.kept_blocks import joined
from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import Classification, get_task, score
from tfq.evaluate.metrics.classification import probabilities, scores_kind


def logits(samples=300, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    values = rng.normal(size=(samples, classes)).astype(np.float32)
    values[np.arange(samples), labels] += 1.5
    return {"scores": values}, labels


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_that_of_scikit_learn(k):
    outputs, labels = logits()
    task = get_task("classification").fit(outputs, labels)
    metric = task.metric(f"top{k}")
    got = score(metric, metric.keep(outputs, task.check(outputs, labels)))
    assert got.value == pytest.approx(
        100 * top_k_accuracy_score(labels, outputs["scores"], k=k, labels=np.arange(7))
    )
    assert got.low < got.value < got.high


def test_of_equal_scores_the_lower_class_comes_first():
    outputs = {"p": np.full((4, 4), 0.25, np.float32)}
    labels = np.arange(4)
    task = get_task("classification").fit(outputs, labels)
    for k in (1, 2, 3):
        hits = task.metric(f"top{k}").per_sample(outputs, labels)
        assert hits.tolist() == [100.0] * k + [0.0] * (4 - k)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.2, 0.6, 0.5, 1.0], [0, 1, 0, 1]), ([-3.0, 0.2, 0.0, 4.0], [0, 1, 0, 1])],
)
@pytest.mark.parametrize("shape", [(4, 1), (4,), (4, 1, 1)])
def test_a_single_score_has_a_threshold(values, expected, shape):
    outputs = {"y": np.array(values, np.float32).reshape(shape)}
    task = get_task("classification").fit(outputs, np.zeros(4))
    assert task.classes == 2
    assert task.answers(outputs).tolist() == expected


def test_the_first_block_decides_whether_scores_are_logits_and_later_ones_must_agree():
    first = {"y": np.array([[-3.0], [2.0]])}
    task = get_task("classification").fit(first, None)
    assert task.scores == "logits"
    assert task.facts() == {"scores": "logits"}
    # On its own this would be a probability below one half.
    assert task.answers({"y": np.array([[0.3]])}).tolist() == [1]

    task = get_task("classification").fit({"y": np.array([[0.3], [0.9]])}, None)
    assert task.scores == "probabilities"
    with pytest.raises(DataError, match=r"value 1\.5 in sample 65.*--scores=logits"):
        task.check({"y": np.array([[0.3], [1.5]])}, None, start=64)


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_quantized_softmax_is_still_probabilities(classes):
    values = softmax(np.random.default_rng(0).normal(size=(50, classes)))
    assert scores_kind(values) == "probabilities"
    assert scores_kind(np.clip(np.round(values * 256), 0, 255) / 256) == "probabilities"


def test_rows_that_do_not_sum_to_one_are_logits():
    assert scores_kind(np.array([[0.1, 0.2, 0.3]])) == "logits"
    assert scores_kind(np.array([[0.9, 0.8, 0.3]])) == "logits"
    assert scores_kind(np.array([[0.6, 0.3, 0.1]])) == "probabilities"


def test_scores_can_be_said():
    outputs = {"y": np.array([[0.1, 0.2, 0.3]])}
    task = get_task("classification", scores="probabilities").fit(outputs, None)
    assert task.confidences(outputs) == pytest.approx(0.3)
    with pytest.raises(UsageError, match=r"probabilities, logits.*Did you mean 'logits'"):
        get_task("classification", scores="logit")


def test_logits_become_probabilities():
    outputs, _ = logits()
    got = probabilities(outputs, "logits")
    np.testing.assert_allclose(got, softmax(outputs["scores"].astype(np.float64)), rtol=1e-12)
    single = probabilities({"y": np.array([[0.0], [2.0]])}, "logits")
    expected = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(single, [[0.5, 0.5], [1 - expected, expected]])


def test_a_row_with_nan_has_no_answer_and_is_never_right():
    outputs = {"p": np.array([[np.nan, 0.4, 0.6], [0.2, 0.7, 0.1]])}
    task = get_task("classification").fit(outputs, None)
    assert task.scores == "probabilities"
    assert task.answers(outputs).tolist() == [-1, 1]
    assert np.isnan(task.confidences(outputs)).tolist() == [True, False]
    for name in ("top1", "top2"):
        assert task.metric(name).per_sample(outputs, np.array([0, 1])).tolist() == [0, 100]


@pytest.mark.parametrize(
    "given",
    [
        np.array([2, 0, 1]),
        np.array([[2], [0], [1]], np.uint8),
        np.array([2.0, 0.0, 1.0], np.float32),
        np.eye(3)[[2, 0, 1]],
        np.eye(3, dtype=bool)[[2, 0, 1]],
        [np.array(2), np.array(0), np.array(1)],
    ],
)
def test_labels_become_class_numbers(given):
    outputs = {"p": np.full((3, 3), 1 / 3)}
    got = get_task("classification").fit(outputs, given).check(outputs, given)
    assert got.tolist() == [2, 0, 1]
    assert got.dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 12]), r"Sample 17 has the label 12, .*'probs' has 10 classes \(0 to 9\)"),
        (np.array([-1, 2]), "Sample 16 has the label -1"),
        (np.array([0, 0.5]), r"Sample 17 has the label 0\.5.*regression"),
        (np.array([0, np.nan]), "Sample 17 has the label nan"),
        (np.zeros((2, 4)), r"one-hot row of 10.*\[4\]"),
        (np.zeros(3), "2 samples need 2 labels. Received: 3"),
        (np.array(["a", "b"]), "numbers. Received: labels of type <U1"),
        ([np.zeros(1), np.zeros(2)], r"\[1\] for sample 16 and \[2\] for sample 17"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    outputs = {"probs": np.full((2, 10), 0.1)}
    task = get_task("classification").fit(outputs, None)
    with pytest.raises(DataError, match=message):
        task.check(outputs, labels, start=16)


def test_a_second_class_is_the_last_of_a_single_score():
    outputs = {"y": np.array([[0.2], [0.7]])}
    task = get_task("classification").fit(outputs, None)
    assert task.check(outputs, np.array([False, True])).tolist() == [0, 1]
    with pytest.raises(DataError, match=r"label 2.*2 classes \(0 to 1\)"):
        task.check(outputs, np.array([0, 2]))


def test_class_folders_have_to_be_the_models_classes():
    task = Classification()
    task.check_classes(["a", "b"], 1)
    task.check_classes(["a", "b", "c"], 3)
    with pytest.raises(DataError, match=r"has 2 classes \(cat, dog\).*10 classes"):
        task.check_classes(["cat", "dog"], 10)
    with pytest.raises(DataError, match=r"\(c0, c1, c2, c3, c4, \.\.\.\)"):
        task.check_classes([f"c{i}" for i in range(12)], 10)


def test_metrics_that_do_not_fit():
    outputs, labels = logits()
    task = get_task("classification")
    with pytest.raises(UsageError, match=r"'psnr' does not fit the task classification.*top1.*auc"):
        task.require(["top1", "psnr"])
    task.require(["top3", "auc", "package.module:fn"])
    with pytest.raises(UsageError, match="top7 of 7 classes is always 100 %"):
        task.fit(outputs, labels).metric("top7")
    with pytest.raises(UsageError, match="top0"):
        task.metric("top0")


def test_outputs_that_are_no_classes():
    task = get_task("classification")
    with pytest.raises(UsageError, match=r"'y' has \[4, 4, 3\]"):
        task.fit({"y": np.zeros((2, 4, 4, 3))}, None)
    with pytest.raises(UsageError, match=r"has 2: a, b\. Choose one"):
        task.fit({"a": np.zeros((2, 3)), "b": np.zeros((2, 3))}, None)


def test_outputs_with_axes_of_one_are_rows():
    outputs = {"y": np.eye(5)[:, None, None, :]}
    task = get_task("classification").fit(outputs, None)
    assert task.classes == 5
    assert task.answers(outputs).tolist() == [0, 1, 2, 3, 4]


def test_the_defaults_depend_on_the_classes():
    few = get_task("classification").fit({"y": np.eye(3)}, None)
    many = get_task("classification").fit({"y": np.eye(30)}, None)
    assert [m.name for m in few.metrics()] == ["top1", "ece"]
    assert [m.name for m in many.metrics()] == ["top1", "top5", "ece"]


@pytest.mark.parametrize("name", ["top1", "top5", "auc", "f1", "ece"])
@pytest.mark.parametrize("block", [1, 64, 300])
def test_blocks_change_no_bit(name, block):
    outputs, labels = logits()
    task = get_task("classification").fit(outputs, labels)
    metric = pickle.loads(pickle.dumps(task.metric(name)))
    parts = [
        metric.keep({"scores": outputs["scores"][i : i + block]}, labels[i : i + block])
        for i in range(0, 300, block)
    ]
    assert score(metric, joined(parts)) == score(metric, metric.keep(outputs, labels))


def test_one_sample_has_a_value_and_no_interval():
    outputs = {"p": np.array([[0.1, 0.9]])}
    task = get_task("classification").fit(outputs, None)
    labels = np.array([1])
    got = score(task.metric("top1"), task.metric("top1").keep(outputs, labels))
    assert (got.value, got.low, got.high) == (100 * accuracy_score([1], [1]), None, None)
    got = score(task.metric("ece"), task.metric("ece").keep(outputs, labels))
    assert got.value == pytest.approx(0.1)
    assert got.low is None
