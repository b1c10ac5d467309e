"""PSNR and SSIM, against their formulas."""

import math

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import get_task, score
from tfq.evaluate.metrics.image import value_range


def images(samples=3, shape=(16, 20, 3), seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((samples, *shape))
    return labels, np.clip(labels + 0.1 * rng.normal(size=labels.shape), 0, 1)


def per_sample(name, values, labels, **options):
    outputs = {"y": values}
    task = get_task("image", **options).fit(outputs, labels)
    return task.metric(name).per_sample(outputs, task.check(outputs, labels))


def ssim_by_hand(x, y, data_range):
    """The formula of the paper on one channel, windows inside the image only."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def mean(v):
        return correlate1d(correlate1d(v, taps, axis=0), taps, axis=1)[5:-5, 5:-5]

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    found = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return found.mean()


@pytest.mark.parametrize("scale", [1, 255])
def test_psnr_is_of_each_image(scale):
    labels, values = images()
    got = per_sample("psnr", values * scale, labels * scale)
    errors = ((values - labels) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(got, -10 * np.log10(errors), rtol=1e-9)


def test_psnr_of_equal_images_is_100_db():
    labels, values = images()
    values[1] = labels[1]
    values[2] = labels[2] + 1e-9
    got = per_sample("psnr", values, labels)
    assert got[0] < 30
    assert got[1:].tolist() == [100, 100]


@pytest.mark.parametrize("shape", [(16, 20, 3), (16, 20, 1), (16, 20)])
def test_ssim_is_that_of_the_paper(shape):
    labels, values = images(shape=shape)
    got = per_sample("ssim", values, labels)
    flat = (3, 16, 20, -1)
    expected = [
        np.mean([ssim_by_hand(x[..., c], y[..., c], 1.0) for c in range(x.shape[-1])])
        for x, y in zip(values.reshape(flat), labels.reshape(flat), strict=True)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_equal_images_are_wholly_similar():
    labels, _ = images()
    assert per_sample("ssim", labels, labels) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 255], np.uint8), 255),
        (np.array([0, 1], np.uint8), 255),
        (np.array([0.0, 250.0]), 255),
        (np.array([0.0, 1.0]), 1),
        (np.array([-1.0, 1.0]), 2),
    ],
)
def test_the_range_of_the_values(values, expected):
    assert value_range(values) == expected


def test_the_range_is_that_of_the_first_block_unless_it_is_said():
    labels, values = images()
    task = get_task("image").fit({"y": values}, labels)
    assert task.data_range == 1
    with pytest.raises(DataError, match=r"label of sample 11 spans 20\d.*is 1, .*--data_range="):
        task.check({"y": values}, labels * np.array([1, 210, 1])[:, None, None, None], start=10)
    assert task.facts() == {"data_range": 1.0}
    assert get_task("image", data_range=255).facts() == {"data_range": 255.0}
    said = per_sample("psnr", values, labels, data_range=10.0)
    np.testing.assert_allclose(said, per_sample("psnr", values, labels) + 20)


def test_without_labels_the_outputs_tell_the_range():
    _, values = images()
    assert get_task("image").fit({"y": values * 255}, None).data_range == 255


def test_outputs_that_are_no_images():
    with pytest.raises(UsageError, match=r"'y' has \[7\]"):
        get_task("image").check({"y": np.zeros((2, 7))}, np.zeros((2, 7)))
    with pytest.raises(UsageError, match=r"11 by 11 at least.*\[8, 20, 3\]"):
        get_task("image").check({"y": np.zeros((2, 8, 20, 3))}, np.zeros((2, 8, 20, 3)))


def test_an_output_with_nan_has_no_value():
    labels, values = images()
    values[2, 3, 4, 0] = np.nan
    outputs = {"y": values}
    task = get_task("image").fit(outputs, labels)
    for metric in task.metrics():
        got = score(metric, metric.keep(outputs, task.check(outputs, labels)))
        assert "the first is sample 2" in got.reason


def test_squared_error_means_what_it_means_in_regression():
    labels, values = images()
    expected = ((values - labels) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(per_sample("mse", values, labels), expected)
    assert math.isclose(per_sample("mae", values, labels)[0], np.abs(values - labels)[0].mean())
