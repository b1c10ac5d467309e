"""Average precision, against the whole of pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from tests.evaluate.metrics.kept_blocks import joined
from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import compare, get_task, score
from tfq.evaluate.metrics.detection import Roles, roles

pytest.importorskip("pycocotools", reason="pip install 'tfq[metrics]'")


def scene(images=12, classes=3, detected=15, seed=0, jitter=0.08):
    """Random boxes, and detections that are near some of them; several of equal score."""
    rng = np.random.default_rng(seed)
    labels, boxes, scores, numbers = [], [], [], []
    for _ in range(images):
        m = int(rng.integers(0, 8))
        low = rng.random((m, 2)) * 0.6
        truth = np.concatenate([low, low + 0.1 + 0.3 * rng.random((m, 2))], axis=1)
        label = np.concatenate([truth, rng.integers(0, classes, (m, 1))], axis=1)
        pick = rng.integers(0, m, detected) if m else None
        if pick is None:
            low = rng.random((detected, 2)) * 0.5
            found = np.concatenate([low, low + 0.3], axis=1)
            number = rng.integers(0, classes, detected)
        else:
            found = truth[pick] + jitter * rng.normal(size=(detected, 4)) * 0.4
            number = np.where(rng.random(detected) < 0.8, label[pick, 4], 0).astype(int)
        labels.append(label)
        boxes.append(found)
        scores.append(np.sort(rng.integers(1, 20, detected) / 20)[::-1])
        numbers.append(number)
    return np.array(boxes), np.array(numbers, float), np.array(scores), labels


def as_outputs(boxes, numbers, scores, count=None):
    outputs = {
        "boxes": boxes.astype(np.float32),
        "classes": numbers.astype(np.float32),
        "scores": scores.astype(np.float32),
    }
    if count is not None:
        outputs["count"] = np.asarray(count, np.float32)
    return outputs


def coco(outputs, labels, images=None):
    """(AP, AP50) by COCO's own evaluation, with every image as often as it is in `images`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = range(len(labels)) if images is None else images
    truth, found = [], []
    for number, i in enumerate(images):
        for a, b, c, d, k in labels[i]:
            box = {"bbox": [a, b, c - a, d - b], "area": (c - a) * (d - b), "iscrowd": 0}
            truth.append({**box, "image_id": number, "category_id": int(k), "id": len(truth) + 1})
        for j in range(outputs["boxes"].shape[1]):
            a, b, c, d = (float(v) for v in outputs["boxes"][i, j])
            box = [a, b, max(c - a, 0), max(d - b, 0)]
            found.append(
                {
                    "bbox": box,
                    "area": box[2] * box[3],
                    "image_id": number,
                    "category_id": int(outputs["classes"][i, j]),
                    "score": float(outputs["scores"][i, j]),
                    "id": len(found) + 1,
                }
            )
    classes = sorted({t["category_id"] for t in truth} | {f["category_id"] for f in found})
    dataset = {
        "images": [{"id": n} for n in range(len(images))],
        "categories": [{"id": k} for k in classes],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        pair = []
        for annotations in (truth, found):
            pair.append(COCO())
            pair[-1].dataset = {**dataset, "annotations": annotations}
            pair[-1].createIndex()
        evaluation = COCOeval(*pair, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * evaluation.stats[0], 100 * evaluation.stats[1]


def measured(name, outputs, labels):
    task = get_task("detection").fit(outputs, labels)
    metric = task.metric(name)
    return metric, metric.keep(outputs, task.check(outputs, labels))


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed):
    boxes, numbers, scores, labels = scene(seed=seed)
    outputs = as_outputs(boxes, numbers, scores)
    ap, ap50 = coco(outputs, labels)
    assert 5 < ap < ap50 < 95
    assert score(*measured("ap", outputs, labels)).value == pytest.approx(ap, abs=1e-9)
    assert score(*measured("ap50", outputs, labels)).value == pytest.approx(ap50, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_counts_an_image_several_times(seed):
    boxes, numbers, scores, labels = scene(seed=seed)
    # Of equal scores the earlier image counts first, which a resample reorders.
    scores = scores + np.random.default_rng(0).random(scores.shape) * 1e-3
    outputs = as_outputs(boxes, numbers, np.sort(scores, axis=1)[:, ::-1])
    images = np.sort(np.random.default_rng(seed).integers(0, len(labels), len(labels)))
    metric, kept = measured("ap", outputs, labels)
    expected = coco(outputs, labels, images)[0]
    assert metric.statistic(kept)(images) == pytest.approx(expected, abs=1e-9)


def test_intervals_and_differences():
    outputs = as_outputs(*scene()[:3])
    labels = scene()[3]
    boxes, numbers, scores, _ = scene(jitter=0.2)
    metric, kept = measured("ap", outputs, labels)
    got = score(metric, kept)
    assert 0 <= got.low < got.value < got.high <= 100
    _, worse = measured("ap", as_outputs(boxes, numbers, scores), labels)
    found = compare(metric, worse, kept)
    assert found.high < 0
    assert found.value == pytest.approx(score(metric, worse).value - got.value)
    assert compare(metric, kept, kept).low == 0


def test_blocks_change_no_bit():
    boxes, numbers, scores, labels = scene()
    outputs = as_outputs(boxes, numbers, scores)
    _metric, whole = measured("ap", outputs, labels)
    parts = [
        measured("ap", {k: v[i : i + 5] for k, v in outputs.items()}, labels[i : i + 5])[1]
        for i in range(0, 12, 5)
    ]
    for name, values in joined(parts).items():
        np.testing.assert_array_equal(values, whole[name])


def test_one_output_of_rows():
    boxes, numbers, scores, labels = scene()
    rows = np.concatenate([boxes, scores[..., None], numbers[..., None]], axis=2)
    three = score(*measured("ap", as_outputs(boxes, numbers, scores), labels))
    one = score(*measured("ap", {"rows": rows.astype(np.float32)}, labels))
    assert one == three


def test_detections_beyond_the_count_and_without_a_score_are_none():
    boxes, numbers, scores, labels = scene()
    few = as_outputs(boxes[:, :6], numbers[:, :6], scores[:, :6])
    counted = as_outputs(boxes, numbers, scores, np.full(12, 6))
    silent = as_outputs(boxes, numbers, np.where(np.arange(15) < 6, scores, 0))
    expected = score(*measured("ap", few, labels)).value
    for outputs in (counted, silent):
        assert score(*measured("ap", outputs, labels)).value == expected


def test_only_the_best_hundred_of_a_class_count():
    labels = [np.array([[0.0, 0, 1, 1, 0]])]
    boxes = np.tile([0.0, 0, 0.1, 0.1], (1, 120, 1))
    boxes[0, 110] = [0, 0, 1, 1]
    outputs = as_outputs(boxes, np.zeros((1, 120)), np.linspace(0.9, 0.1, 120)[None])
    assert coco(outputs, labels)[0] == 0
    assert score(*measured("ap", outputs, labels)).value == 0


def test_perfect_and_absent_detections():
    _, _, _, labels = scene()
    width = max(len(label) for label in labels)
    padded = np.full((12, width, 5), -1.0)
    for row, label in zip(padded, labels, strict=True):
        row[: len(label)] = label
    there = (padded[..., 4] >= 0) * 0.9
    outputs = as_outputs(padded[..., :4], padded[..., 4], there)
    assert score(*measured("ap", outputs, padded)).value == pytest.approx(100)
    nothing = as_outputs(padded[..., :4], padded[..., 4], 0 * there)
    assert score(*measured("ap", nothing, padded)).value == 0


def test_without_boxes_there_is_no_value():
    boxes, numbers, scores, _ = scene(images=3)
    got = score(*measured("ap", as_outputs(boxes, numbers, scores), [np.zeros((0, 5))] * 3))
    assert (got.value, got.reason) == (None, "The labels hold no box.")


def test_scores_that_are_no_numbers():
    boxes, numbers, scores, labels = scene(images=3)
    scores[1, 0] = np.nan
    got = score(*measured("ap", as_outputs(boxes, numbers, scores), labels))
    assert "the first is sample 1" in got.reason


def test_outputs_are_told_apart():
    boxes, lists, count = (10, 4), (10,), ()
    assert roles({"a": boxes, "b": lists, "c": lists, "d": count}) == Roles(
        None, "a", "c", "b", "d"
    )
    assert roles({"n": (1,), "the_scores": lists, "x": lists, "boxes": boxes}) == Roles(
        None, "boxes", "the_scores", "x", "n"
    )
    assert roles({"boxes": boxes, "y": lists, "class_ids": lists}) == Roles(
        None, "boxes", "y", "class_ids"
    )
    assert roles({"boxes": (1, 4), "c": (1,), "s": (1,), "num": (1,)}) == Roles(
        None, "boxes", "s", "c", "num"
    )
    assert roles({"rows": (10, 6)}) == Roles("rows")
    for other in ({"y": (10,)}, {"y": (10, 5)}, {"a": boxes, "b": boxes, "c": lists}, {"a": boxes}):
        assert roles(other) is None


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((2, 4)), r"label of sample 21 is no list of boxes \[m, 5\].*\[2, 4\]"),
        (np.array([[0.5, 0, 0.2, 1, 0]]), "Box 0 in the label of sample 21 ends before it starts"),
        (np.array([[0, 0, 1, 1, 0.5]]), "Box 0 in the label of sample 21 is not of four"),
        (np.array([[0, 0, np.nan, 1, 0]]), "Box 0 in the label of sample 21 is not of four"),
        (np.tile([0, 0, 1, 1, 0], (600, 1)), "sample 21 has 600 boxes; there may be 512"),
    ],
)
def test_labels_that_are_no_boxes(label, message):
    boxes, numbers, scores, _ = scene(images=2)
    outputs = as_outputs(boxes, numbers, scores)
    with pytest.raises(DataError, match=message):
        get_task("detection").check(outputs, [np.zeros((0, 5)), label], start=20)


@pytest.mark.parametrize(
    ("scale", "classes"), [(0.286, 2), (0.353, 2), (0.9, 2), (0.353, 9), (79 / 65535, 9)]
)
def test_classes_of_a_quantized_output_are_rounded(scale, classes):
    boxes, numbers, scores, labels = scene(images=12, classes=classes)
    outputs = as_outputs(boxes, numbers, scores)
    exact = score(*measured("ap", outputs, labels))
    steps = np.round(outputs["classes"] / np.float32(scale))
    outputs["classes"] = steps * np.float32(scale)
    assert np.any(outputs["classes"] != numbers)
    got = score(*measured("ap", outputs, labels))
    assert (got.value, got.low, got.high) == (exact.value, exact.low, exact.high)
    for i in range(12):  # Few values show only a multiple of the step.
        get_task("detection").check({k: v[i : i + 1] for k, v in outputs.items()}, None)


@pytest.mark.parametrize("scale", [1.2, 1.7, 2.5])
def test_a_grid_coarser_than_a_class_is_said(scale):
    boxes, numbers, scores, _ = scene(classes=20)
    outputs = as_outputs(boxes, np.round(numbers / scale) * scale, scores)
    with pytest.raises(DataError, match=rf"output 'classes' are {scale} apart.*too coarse.*16 bit"):
        get_task("detection").check(outputs, None)


def test_outputs_that_are_no_detections():
    task = get_task("detection")
    with pytest.raises(UsageError, match=r"Received: 'y' \[10\]"):
        task.check({"y": np.zeros((2, 10))}, None)
    boxes, numbers, scores, labels = scene(images=2)
    swapped = {"boxes": boxes, "a": scores, "b": numbers}
    with pytest.raises(DataError, match=r"sample 30 has the class 0\.\d+ in the output 'a'"):
        task.check(swapped, labels, start=30)
    with pytest.raises(DataError, match="2 samples need 2 labels"):
        task.check(as_outputs(boxes, numbers, scores), labels[:1])
