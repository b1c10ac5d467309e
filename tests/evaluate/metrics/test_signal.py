"""SI-SDR and SNR, against their definition and known noise."""

import numpy as np
import pytest

from tfq.errors import DataError, UsageError
from tfq.evaluate.metrics import get_task, score


def per_sample(name, values, labels):
    outputs = {"y": np.asarray(values)}
    task = get_task("signal").fit(outputs, labels)
    return task.metric(name).per_sample(outputs, task.check(outputs, labels))


def signals(samples=4, length=500, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(samples, length))
    noise = rng.normal(size=labels.shape)
    # Noise at a right angle to the signal, of the same power.
    noise -= labels * ((noise * labels).sum(1) / (labels**2).sum(1))[:, None]
    noise *= np.sqrt((labels**2).sum(1) / (noise**2).sum(1))[:, None]
    return labels, noise


@pytest.mark.parametrize("scale", [1.0, 0.2, -3.0])
def test_si_sdr_is_the_level_of_the_noise_whatever_the_scale(scale):
    labels, noise = signals()
    for level in (30.0, 3.0, -10.0):
        values = scale * (labels + noise * 10 ** (-level / 20))
        np.testing.assert_allclose(per_sample("si_sdr", values, labels), level, atol=1e-9)


def test_si_sdr_is_the_papers_formula():
    rng = np.random.default_rng(1)
    labels, values = rng.normal(size=(2, 3, 100))
    for y, s, got in zip(values, labels, per_sample("si_sdr", values, labels), strict=True):
        target = (y @ s) / (s @ s) * s
        expected = 10 * np.log10((target @ target) / ((target - y) @ (target - y)))
        assert got == pytest.approx(expected, abs=1e-9)


def test_snr_is_not_scale_invariant():
    labels, noise = signals()
    np.testing.assert_allclose(per_sample("snr", labels + 0.1 * noise, labels), 20, atol=1e-9)
    np.testing.assert_allclose(per_sample("snr", 0.9 * labels, labels), 20, atol=1e-9)


def test_channels_are_averaged():
    labels, noise = signals()
    values = labels + noise * np.array([10 ** (-d / 20) for d in (10, 20, 30, 40)])[:, None]
    got = per_sample("si_sdr", values.T[None], labels.T[None])
    np.testing.assert_allclose(got, [25], atol=1e-9)


def test_limits():
    labels, noise = signals()
    for name in ("si_sdr", "snr"):
        assert per_sample(name, labels, labels).tolist() == [100] * 4
    assert per_sample("si_sdr", np.zeros_like(labels), labels).tolist() == [-100] * 4
    assert per_sample("snr", np.zeros_like(labels), labels).tolist() == [0] * 4
    assert per_sample("si_sdr", noise * 1e-9, labels).tolist() == [-100] * 4


def test_an_output_with_nan_has_no_value():
    labels, noise = signals()
    values = labels + noise
    values[1, 7] = np.nan
    outputs = {"y": values}
    metric = get_task("signal").metric("si_sdr")
    got = score(metric, metric.keep(outputs, labels))
    assert "1 of 4 samples are NaN or infinite; the first is sample 1" in got.reason


def test_a_silent_label_has_no_ratio():
    labels, noise = signals()
    labels[2] = 0
    with pytest.raises(DataError, match="label of sample 102 is silent"):
        get_task("signal").check({"y": noise}, labels, start=100)


def test_outputs_that_are_no_signals():
    with pytest.raises(UsageError, match=r"'y' has \[2, 3, 4\]"):
        get_task("signal").check({"y": np.zeros((1, 2, 3, 4))}, np.zeros((1, 2, 3, 4)))
