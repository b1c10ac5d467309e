"""Tasks by name, and by what shapes and types speak for."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from tfq.errors import UsageError
from tfq.evaluate.metrics import get_task, guess_task, score, tasks
from tfq.evaluate.metrics.libraries import library

DETECTION = {"boxes": (10, 4), "classes": (10,), "scores": (10,), "count": ()}


def guess(outputs, label_shape, label_dtype, labels=None):
    if isinstance(outputs, tuple):
        outputs = {"y": outputs}
    dtypes = dict.fromkeys(outputs, np.float32)
    return guess_task(outputs, dtypes, label_shape, label_dtype, labels)


def test_all_tasks_can_be_had():
    assert tasks() == (
        "classification",
        "segmentation",
        "regression",
        "image",
        "embedding",
        "detection",
        "signal",
    )
    for name in tasks():
        task = get_task(name)
        assert task.name == name
        task.require(task.default_metrics)
        assert set(task.default_metrics) <= set(task.all_metrics)


@pytest.mark.parametrize("name", ["regression", "image", "embedding", "detection", "signal"])
def test_metrics_are_called_what_they_were_asked_for_with(name):
    task = get_task(name, **({"data_range": 1.0} if name == "image" else {}))
    for metric in task.metrics(task.all_metrics):
        assert metric.name in task.all_metrics
        assert metric.better in ("higher", "lower")
        assert metric.unit in ("%", "dB", "")
    assert len(task.metrics(task.all_metrics)) == len(task.all_metrics)
    with pytest.raises(UsageError, match=f"'top1' does not fit the task {name}"):
        task.metric("top1")


def test_names_that_are_no_tasks():
    with pytest.raises(UsageError, match=r"'regresion'.*Did you mean 'regression'"):
        get_task("regresion")
    with pytest.raises(UsageError, match=r"option of a task 'range'.*'data_range'"):
        get_task("image", range=3)
    with pytest.raises(UsageError, match=r"--scores is for the task classification or segm"):
        get_task("signal", scores="logits")
    with pytest.raises(UsageError, match=r"--data_range is for the task image"):
        get_task("classification", data_range=255)
    with pytest.raises(UsageError, match=r"--ignore_index is a label, a whole number.*1\.5"):
        get_task("segmentation", ignore_index=1.5)
    for wrong in (0, -1.0, float("nan"), float("inf"), "255", True):
        with pytest.raises(UsageError, match=r"--data_range is .* above 0"):
            get_task("image", data_range=wrong)


@pytest.mark.parametrize(
    ("outputs", "label_shape", "label_dtype", "labels", "expected"),
    [
        ((10,), (), np.int64, None, "classification"),
        ((10,), (1,), np.uint8, None, "classification"),
        ((1, 1, 10), (), np.int32, None, "classification"),
        ((1,), (), bool, None, "classification"),
        ((), (), np.int64, None, "classification"),
        ((3,), (3,), np.float32, np.eye(3), "classification"),
        ((10,), (), np.float32, np.array([3.0, 7.0]), "classification"),
        ((3,), (3,), np.float32, np.ones((2, 3)), "regression"),
        ((1,), (), np.float32, np.array([1.0, 0.0]), "regression"),
        ((1,), (1,), np.float64, None, "regression"),
        ((), (1,), np.float64, None, "regression"),
        ((20, 2), (20, 2), np.float32, None, "regression"),
        ((32, 32, 3), (32, 32, 3), np.uint8, None, "image"),
        ((32, 32, 1), (32, 32), np.float32, None, "image"),
        ((32, 32, 7), (32, 32, 7), np.float32, None, "regression"),
        ((32, 32, 5), (32, 32), np.uint8, None, "segmentation"),
        ((5, 32, 32), (32, 32, 1), np.int64, None, "segmentation"),
        ((8, 8, 5), (32, 32), np.int32, np.array([[0, 4, 255]]), "segmentation"),
        ((32, 32, 1), (32, 32), np.int32, np.array([[0, 1, 1]]), "segmentation"),
        ((32, 32, 1), (32, 32), np.uint8, np.array([[0, 255, 0]]), "segmentation"),
        ((32, 32, 1), (32, 32), np.uint8, np.array([[0, 1, 2]]), "image"),
        ((32, 32, 3), (32, 32, 3), np.uint8, np.array([[0, 1, 1]]), "image"),
        (DETECTION, (4, 5), np.float32, None, "detection"),
        ((100, 6), (0, 5), np.float32, None, "detection"),
    ],
)
def test_guesses(outputs, label_shape, label_dtype, labels, expected):
    assert guess(outputs, label_shape, label_dtype, labels) == expected


@pytest.mark.parametrize(
    ("outputs", "label_shape", "label_dtype", "message"),
    [
        ((8, 8, 5), (32, 32), np.int32, "No task fits"),
        ((10,), (3,), np.float32, r"'y' \[10\] and labels of shape \[3\] and type float32"),
        ((32, 32, 5), (32, 32), np.float32, "No task fits"),
        ((10,), (), str, "No task fits"),
        ({"a": (10,), "b": (10,)}, (), np.int64, r"'a' \[10\], 'b' \[10\].*Or choose one output"),
        (DETECTION, (), np.int64, "Choose one: classification, segmentation, regression"),
        ((10,), None, None, "no labels, so the task cannot be told"),
    ],
)
def test_what_nothing_fits(outputs, label_shape, label_dtype, message):
    with pytest.raises(UsageError, match=message):
        guess(outputs, label_shape, label_dtype)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("sklearn.metrics", "scikit-learn"),
        ("skimage.metrics", "scikit-image"),
        ("pycocotools.cocoeval", "pycocotools"),
    ],
)
def test_a_missing_library_is_one_clear_error(monkeypatch, module, package):
    def missing(name):
        raise ModuleNotFoundError("gone", name=name.partition(".")[0])

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match=rf"SSIM needs {package}.*pip install 'tfq\[metrics\]'"):
        library(module, "SSIM")


def test_what_a_library_lacks_itself_is_not_hidden(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("gone", name="something_else")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        library("sklearn.metrics", "SSIM")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["regression", "image", "embedding", "signal"])
def test_outputs_that_are_no_numbers_are_named_by_every_metric(name, bad):
    rng = np.random.default_rng(0)
    reference = {"y": rng.random((4, 12, 12) if name == "image" else (4, 12))}
    labels = np.array([0, 0, 1, 1]) if name == "embedding" else rng.random(reference["y"].shape)
    values = reference["y"].copy()
    values[2, 3] = bad
    task = get_task(name).fit(reference, labels)
    for metric in task.metrics(task.all_metrics):
        kept = metric.keep({"y": values}, task.check({"y": values}, labels), reference)
        found = score(metric, kept)
        assert found.value is None
        assert "1 of 4 samples are NaN or infinite; the first is sample 2." in found.reason


def test_nothing_heavy_is_imported():
    code = (
        "import sys, tfq.evaluate.metrics, tfq.evaluate.paired\n"
        "print([m for m in ('sklearn', 'skimage', 'scipy', 'pycocotools', 'tensorflow')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
