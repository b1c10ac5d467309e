"""Segmentation against scikit-learn, resizing against LiteRT's kernel."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, jaccard_score
from small_models import Net

from tests.evaluate.metrics.kept_blocks import joined
from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import compare, get_task, score
from tfq.evaluate.metrics.resizing import resized
from tfq.evaluate.metrics.segmentation import class_accuracy, class_iou
from tfq.graph.model import options_type
from tfq.runtime import Runner

CLASSES = 6


def scores_of(labels, rng, sure=1.5):
    """Scores whose answers are often the labels [n, h, w]; class 5 is never answered."""
    found = rng.normal(size=(*labels.shape, CLASSES)).astype(np.float32)
    found[..., 5] = -9
    found += sure * np.eye(CLASSES, dtype=np.float32)[np.where(labels == 255, 0, labels)]
    return found


@pytest.fixture(scope="module")
def drawn():
    """Labels without class 4, a tenth of them ignored; scores of two models."""
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 1, 2, 3, 5], (24, 9, 7), p=[0.5, 0.2, 0.15, 0.1, 0.05])
    labels = labels.astype(np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    return labels, scores_of(labels, rng), scores_of(labels, rng, 1.2)


def kept_of(task, metric, scores, labels, reference=None, cuts=(0, 5, 24)):
    """What a metric keeps of outputs in blocks."""
    blocks = []
    for start, stop in itertools.pairwise(cuts):
        outputs = {"y": scores[start:stop]}
        some = None if labels is None else labels[start:stop]
        checked = task.check(outputs, some, start)
        other = None if reference is None else {"y": reference[start:stop]}
        read = other and task.read(other, checked)
        blocks.append(metric.keep(task.read(outputs, checked), checked, read))
    return joined(blocks)


def fitted(scores, labels, **options):
    return get_task("segmentation", **options).fit({"y": scores}, labels)


def test_metrics_are_those_of_scikit_learn(drawn):
    labels, scores, _ = drawn
    task = fitted(scores, labels)
    assert task.facts() == {"scores": None, "ignore_index": 255}
    counted = labels != 255
    true, got = labels[counted], scores.argmax(-1)[counted]
    there = np.union1d(true, got)
    assert list(there) == [0, 1, 2, 3, 4, 5]
    expected = {
        "miou": jaccard_score(true, got, labels=there, average="macro"),
        "pixel_accuracy": accuracy_score(true, got),
        "mean_accuracy": np.mean([np.mean(got[true == c] == c) for c in np.unique(true)]),
        "dice": f1_score(true, got, labels=there, average="macro"),
    }
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert expected["mean_accuracy"] == pytest.approx(balanced_accuracy_score(true, got))
    for name, value in expected.items():
        metric = task.metric(name)
        kept = kept_of(task, metric, scores, labels)
        assert score(metric, kept).value == pytest.approx(100 * value, rel=1e-12)
    totals = {k: v.sum(axis=0) for k, v in kept.items()}
    each = jaccard_score(true, got, labels=range(CLASSES), average=None)
    np.testing.assert_allclose(class_iou(totals), 100 * each)
    assert np.isnan(class_accuracy(totals)).tolist() == [c == 4 for c in range(CLASSES)]
    assert totals["ignored"] == (labels == 255).sum()


def test_a_class_in_neither_labels_nor_answers_is_left_out(drawn):
    labels, scores, _ = drawn
    quiet = scores.copy()
    quiet[..., 4] = -9
    task = fitted(quiet, labels)
    metric = task.metric("miou")
    counted = labels != 255
    true, got = labels[counted], quiet.argmax(-1)[counted]
    expected = jaccard_score(true, got, labels=[0, 1, 2, 3, 5], average="macro")
    assert metric.compute(kept_of(task, metric, quiet, labels)) == pytest.approx(100 * expected)


def test_another_label_is_ignored_and_then_255_is_wrong(drawn):
    labels, scores, _ = drawn
    as_int = labels.astype(np.int16)
    as_int[labels == 255] = -1
    metric = fitted(scores, labels).metric("miou")
    expected = kept_of(fitted(scores, labels), metric, scores, labels)
    task = fitted(scores, as_int, ignore_index=-1)
    found = kept_of(task, metric, scores, as_int)
    assert all(np.array_equal(found[k], expected[k]) for k in expected)
    with pytest.raises(DataError, match=r"label of sample \d+ is 255 at row .* 0 to 5, and -1"):
        task.check({"y": scores}, labels)
    with pytest.raises(DataError, match=r"sample 1\d is -1 at .*say so with --ignore_index=-1"):
        fitted(scores, labels).check({"y": scores}, as_int, start=10)


@pytest.mark.parametrize(
    ("value", "way"),
    [
        (np.nan, r"is nan at .*255 for pixels to ignore\. Labels are whole numbers\."),
        (1.5, r"is 1\.5 at .*Labels are whole numbers\."),
        (2.0**40, r"If 1099511627776 marks .*--ignore_index=1099511627776;"),
    ],
)
def test_what_cannot_be_ignored_is_not_said_to_be(value, way):
    scores = np.random.default_rng(0).random((1, 4, 4, 3), np.float32)
    labels = np.zeros((1, 4, 4))
    task = fitted(scores, labels)
    labels[0, 1, 2] = value
    with pytest.raises(DataError, match=way):
        task.check({"y": scores}, labels)


def test_the_interval_of_a_difference_is_that_of_resampled_counts(drawn):
    labels, one, other = drawn
    task = fitted(one, labels)
    metric = task.metric("miou")
    a, b = (kept_of(task, metric, s, labels, one) for s in (one, other))
    found = compare(metric, b, a, seed=4)
    rng = np.random.default_rng(4)
    drawn_again = []
    for _ in range(found.resamples):
        indices = rng.integers(0, 24, size=24)
        values = [metric.compute({k: v[indices] for k, v in kept.items()}) for kept in (b, a)]
        drawn_again.append(values[0] - values[1])
    value = metric.compute(b) - metric.compute(a)
    middle = np.percentile(drawn_again - np.mean(drawn_again) + value, [2.5, 97.5])
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx(tuple(middle))
    assert found.high < 0


def test_agreement_needs_no_labels_and_ignores_what_they_ignore(drawn):
    labels, one, other = drawn
    task = fitted(one, None)
    metric = task.metric("agreement")
    assert not metric.needs_labels
    same = one.argmax(-1) == other.argmax(-1)
    kept = kept_of(task, metric, other, None, one)
    assert set(kept) == {"same", "pixels"}
    assert metric.compute(kept) == pytest.approx(100 * same.mean())
    kept = kept_of(task, metric, other, labels, one)
    assert metric.compute(kept) == pytest.approx(100 * same[labels != 255].mean())
    assert score(metric, kept_of(task, metric, -one, one.argmin(-1), one)).value == 0


@pytest.mark.parametrize(("kind", "threshold"), [("probabilities", 0.5), ("logits", 0.0)])
def test_one_score_a_pixel_is_of_two_classes(kind, threshold):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (8, 5, 6))
    scores = rng.normal(2 * labels - 1.0).astype(np.float32)
    if kind == "probabilities":
        scores = 1 / (1 + np.exp(-scores))
    for shaped in (scores, scores[..., None]):
        task = fitted(shaped, labels)
        assert task.facts() == {"scores": kind, "ignore_index": 255}
        metric = task.metric("miou")
        value = metric.compute(kept_of(task, metric, shaped, labels, cuts=(0, 8)))
        expected = jaccard_score(labels.ravel(), scores.ravel() > threshold, average="macro")
        assert value == pytest.approx(100 * expected)
    if kind == "probabilities":
        with pytest.raises(DataError, match=r"read as probabilities.*sample 3.*--scores=logits"):
            task.check({"y": shaped * np.float32(3)}, labels, 3)


def test_class_numbers_are_answers():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, (6, 5, 6))
    maps = np.where(rng.random(labels.shape) < 0.7, labels, 1)
    for shaped in (maps, maps[..., None].astype(np.int32)):
        task = fitted(shaped, labels)
        metric = task.metric("miou")
        kept = kept_of(task, metric, shaped, labels, cuts=(0, 6))
        expected = jaccard_score(labels.ravel(), maps.ravel(), average="macro")
        assert score(metric, kept).value == pytest.approx(100 * expected)
        assert metric.cost(kept) == 6 * 3 * 4
    with pytest.raises(DataError, match=r"size \[10, 12\].*numbers of size \[5, 6\], which can"):
        task.check({"y": maps}, labels.repeat(2, 1).repeat(2, 2))
    with pytest.raises(DataError, match=r"are 0 to 255, and has 300 in sample 7"):
        task.check({"y": maps + 299 * (maps == 1)}, labels, 7)


def test_scores_may_have_their_classes_first(drawn):
    labels, scores, _ = drawn
    task = fitted(np.moveaxis(scores, -1, 1), labels)
    read = task.read({"y": np.moveaxis(scores, -1, 1)}, None)["y"]
    assert np.array_equal(read, scores.argmax(-1))


def test_labels_of_several_sizes_each_get_resized_scores(drawn):
    _, scores, _ = drawn
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, CLASSES, size) for size in ((18, 14), (9, 7), (20, 11))]
    task = fitted(scores[:3], labels)
    checked = task.check({"y": scores[:3]}, labels)
    read = task.read({"y": scores[:3]}, checked)["y"]
    for found, label, s in zip(read, labels, scores, strict=False):
        assert np.array_equal(found, resized(s, label.shape).argmax(-1))
    counts = task.metric("miou").keep({"y": read}, checked)
    assert counts["labelled"].sum(axis=1).tolist() == [label.size for label in labels]


@pytest.mark.parametrize("size", [(13, 20), (9, 7), (5, 3), (18, 28)])
def test_resizing_is_that_of_the_kernel_with_half_pixel_centers(size):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1, 9, 7, 4)).astype(np.float32)
    net = Net()
    x = net.input(1, 9, 7, 4, name="x")
    y = net.op(
        "RESIZE_BILINEAR",
        x,
        net.const(size, "int32"),
        shape=(1, *size, 4),
        options=options_type("ResizeBilinearOptions")(),
        halfPixelCenters=True,
    )
    (expected,) = Runner(net.bytes(y)).run({"x": values}).values()
    np.testing.assert_allclose(resized(values[0], size), expected[0], rtol=1e-5, atol=1e-6)


def test_a_pixel_without_a_number_has_no_answer(drawn):
    labels, scores, _ = drawn
    broken = scores.copy()
    broken[0, 0, 0, 2] = np.nan
    task = fitted(scores, labels)
    read = task.read({"y": broken}, None)["y"]
    assert read[0, 0, 0] == -1
    assert np.array_equal(read.ravel()[1:], scores.argmax(-1).ravel()[1:])
    kept = task.metric("miou").keep({"y": read}, task.check({"y": broken}, labels))
    assert kept["answered"].sum() == (labels != 255).sum() - (labels[0, 0, 0] != 255)


def test_flips_are_shares_of_pixels(drawn):
    _, one, other = drawn
    task = fitted(one, None)
    expected = (one.argmax(-1) != other.argmax(-1)).mean(axis=(1, 2))
    np.testing.assert_allclose(task.flipped({"y": one}, {"y": other}), expected)
    assert task.probed("noise")
    assert not task.probed("shift")


def test_one_hot_labels_are_class_maps(drawn):
    labels, scores, _ = drawn
    plain = np.where(labels == 255, 0, labels)
    task = fitted(scores, plain)
    expected = task.check({"y": scores}, plain)
    assert np.array_equal(task.check({"y": scores}, np.eye(CLASSES)[plain]), expected)
    assert np.array_equal(task.check({"y": scores}, plain[..., None].astype(float)), expected)


def test_all_ignored_is_no_value_and_no_crash(drawn):
    _, scores, _ = drawn
    labels = np.full(scores.shape[:3], 255)
    task = fitted(scores, labels)
    metric = task.metric("pixel_accuracy")
    found = score(metric, kept_of(task, metric, scores, labels))
    assert found.value is None
    assert found.reason.startswith("Every pixel's label")


def test_labels_and_outputs_that_fit_nothing(drawn):
    _, scores, _ = drawn
    task = fitted(scores, None)
    half = np.zeros(scores.shape[:3])
    half[3, 1, 2] = 0.5
    with pytest.raises(DataError, match=r"sample 13 is 0\.5 at row 1, column 2"):
        task.check({"y": scores}, half, 10)
    half[3, 1, 2] = np.nan
    with pytest.raises(DataError, match=r"sample 3 is nan at row 1"):
        task.check({"y": scores}, half)
    with pytest.raises(DataError, match=r"class map \[height, width\]\. Received: shape \[9\]"):
        task.check({"y": scores}, half[..., 0])
    with pytest.raises(UsageError, match=r"the output 'y' has \[6\]"):
        fitted(scores[:, 0, 0], None)
    white = 255 * np.random.default_rng(0).integers(0, 2, scores.shape[:3])
    with pytest.raises(DataError, match=r"0 and 255.*divide.*--ignore_index=255"):
        fitted(scores[..., :1], white)
    assert fitted(scores[..., :1], white, ignore_index=255).ignored == 255
    many = np.zeros((1, 4, 4, 300), np.float32)
    assert fitted(many, np.full((1, 4, 4), 255)).ignored is None
