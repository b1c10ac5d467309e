"""Collapse and starved parts, on both sides of each line."""

import math

import numpy as np
import pytest

from tfq.graph.numerics import Grid
from tfq.verify.meter import Meter

N = 32
RNG = np.random.default_rng(3)


def on_grid(values, step):
    return np.rint(np.asarray(values) / step) * step


def measure(expected, got, step=0.1, **options):
    """The meter of an output [1, channels] or larger, sample by sample."""
    expected, got = np.asarray(expected, np.float32), np.asarray(got, np.float32)
    shape = (1, *expected.shape[1:])
    grid = Grid("int8", (step,), (0,)) if step else None
    meter = Meter("y", shape, step or None, grid=grid, **options)
    for e, r in zip(expected, got, strict=True):
        meter.add(e[None], r[None])
    return meter


def normal(*shape, size=1.0):
    return RNG.normal(0, size, shape)


def test_a_large_offset_does_not_hide_that_the_signal_is_gone():
    y = 100 + normal(N, 6)
    gone = np.full_like(y, 100.0)
    meter = measure(y, gone)
    assert meter.result().sqnr_db > 35
    assert meter.result().variation_db == pytest.approx(0, abs=0.5)
    assert meter.collapsed
    assert not measure(y, on_grid(y, 0.1)).collapsed


def test_noise_as_strong_as_the_signal_is_a_collapse():
    y = normal(N, 6)
    assert measure(y, y + normal(N, 6)).collapsed
    assert not measure(y, y + normal(N, 6, size=0.3)).collapsed


def test_what_moves_by_less_than_a_step_has_nothing_to_lose():
    """Constant to 0.1 LSB: the grid rounds it to one value."""
    y = 3 + normal(N, 4, size=0.003)
    meter = measure(y, np.full_like(y, 3.0))
    assert meter.result().variation_db < 3
    assert meter.result().constant
    assert not meter.collapsed
    # Unless it is another constant.
    assert measure(y, np.full_like(y, 9.0)).collapsed
    # What moves by ten steps is not constant.
    assert measure(y, np.full_like(y, 3.0), step=0.0005).collapsed


def test_a_step_that_others_need_excuses_nothing():
    """All zero on the grid of values a hundred times as large."""
    y = normal(N, 4, size=0.2)
    assert measure(y, np.zeros_like(y), step=5.0).collapsed
    assert not measure(y, on_grid(y, 0.01), step=0.01).collapsed


def masked(value, size=3.0):
    open_ = RNG.random((N, 10)) < 0.7
    return np.where(open_, normal(N, 10, size=size), value), open_


@pytest.mark.parametrize("value", [-1e9, -1e4])
def test_open_values_between_masks_are_not_hidden_by_them(value):
    y, open_ = masked(value)
    step = abs(value) / 255
    meter = measure(y, on_grid(y, step), step=step)
    assert meter.result().sqnr_db > 60
    assert meter.collapsed
    low, high = meter.result().hidden
    assert low <= y[open_].min() < y[open_].max() <= high < 32
    # With a mask that is near, and with exact ones, there is nothing to tell.
    for y, _ in (masked(-60), masked(-1e9, size=0.0)):
        step = float(-y.min()) / 255
        assert not measure(y, on_grid(y, step), step=step).collapsed


def test_small_values_beside_large_ones_are_not_hidden():
    """Objectness times class score, and logarithms of sure probabilities."""
    seen = RNG.random((N, 20, 1)) < 0.2
    scores = np.where(seen, RNG.uniform(0.8, 1, (N, 20, 6)), RNG.uniform(0, 1e-4, (N, 20, 6)))
    assert not measure(scores, on_grid(scores, 1 / 256), step=1 / 256).collapsed
    one = np.eye(10)[RNG.integers(0, 10, N)]
    logarithms = np.where(one, -RNG.uniform(0, 0.01, (N, 10)), -16.1)
    assert not measure(logarithms, on_grid(logarithms, 0.06), step=0.06).collapsed


def test_masks_of_an_output_without_answers():
    y, _ = masked(-1e9)
    y = y.reshape(N, 10, 1)
    assert measure(y, on_grid(y, 4e6), step=4e6).collapsed


def test_masks_at_fixed_places_hide_too():
    y = normal(N, 10, size=3.0)
    y[:, 6:] = -1e9
    assert measure(y, on_grid(y, 4e6), step=4e6).collapsed


def test_an_infinite_mask_is_the_lowest_value():
    y, _ = masked(-np.inf)
    for step in (0.1, 0.0):
        got = on_grid(np.maximum(y, -12.8), 0.1) if step else y
        meter = measure(y, got, step=step)
        assert not meter.collapsed
        assert meter.result().sqnr_db > 40
    assert measure(y, np.where(np.isinf(y), -12.8, 0)).collapsed


def test_probabilities_that_are_all_zero_answer_nothing():
    """An untrained softmax of a thousand classes; and a detector that saw nothing."""
    y = np.exp(normal(N, 1000, size=0.1))
    y /= y.sum(axis=1, keepdims=True)
    meter = measure(y, np.zeros_like(y), step=1 / 256, has_parts=False)
    assert meter.collapsed
    assert meter.result().constant
    seen = normal(N, 30, 20, 1, size=1e-4) ** 2
    assert not measure(seen, np.zeros_like(seen), step=1 / 256, has_parts=False).collapsed


def test_a_constant_shift_is_an_error_and_no_collapse():
    y = 50 + normal(N, 4, size=5)
    meter = measure(y, y + 3)
    assert meter.result().variation_db > 30
    assert not meter.collapsed


def test_answers_that_all_change_though_what_they_share_is_kept():
    """Logits that go up and down together by 50, with differences of 2 that are lost."""
    y = normal(N, 1, size=50) + normal(N, 10, size=2)
    lost = y.mean(axis=1, keepdims=True) + normal(N, 10, size=2)
    meter = measure(y, lost)
    assert meter.result().variation_db > 20
    assert meter.result().agreement < 0.4
    assert meter.collapsed
    assert not measure(y, on_grid(y, 0.1)).collapsed


def test_answers_that_agree_are_no_collapse():
    """A confident softmax whose other values are off: classes are right."""
    labels = np.arange(N) % 4
    y = np.eye(4)[labels] * 0.3 + normal(N, 4, size=0.02)
    off = np.eye(4)[labels] * 0.9
    meter = measure(y, off, step=1 / 256)
    assert meter.result().variation_db < 3
    assert meter.result().agreement == 1
    elsewhere = measure(y, np.roll(off, 1, axis=1), step=1 / 256)
    assert elsewhere.collapsed


def test_one_answer_for_all_is_no_agreement():
    y = normal(N, 4) + np.array([20, 0, 0, 0])
    meter = measure(y, np.broadcast_to([20.0, 0, 0, 0], y.shape))
    assert meter.result().agreement == 1
    assert meter.collapsed


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_samples(count):
    y = normal(count, 40, size=3)
    assert not measure(y, on_grid(y, 0.1)).collapsed
    assert measure(y, np.zeros_like(y)).collapsed
    assert (measure(y, y).result().variation_db is None) == (count == 1)


def test_float_outputs_are_judged_without_a_step():
    y = 100 + normal(N, 4)
    assert measure(y, np.full_like(y, 100.0), step=0.0).collapsed
    assert not measure(y, y + normal(N, 4, size=0.1), step=0.0).collapsed
    assert not measure(y * 0 + 5, y * 0 + 5, step=0.0).collapsed


def test_class_numbers():
    y = RNG.integers(0, 8, (N, 1))
    wrong = (y + RNG.integers(1, 8, y.shape)) % 8
    some = np.where(np.arange(N)[:, None] % 4 == 0, wrong, y)
    for got, lost in ((y, False), (some, False), (wrong, True), (np.full_like(y, 3), True)):
        meter = measure(y, got, step=0.0, counts=True)
        assert meter.collapsed == lost
        assert meter.result().agreement == pytest.approx(np.mean(y == got))
    # Background in nine places of ten, and then in all.
    mask = (RNG.random((N, 8, 8)) < 0.1).astype(int)
    assert measure(mask, np.zeros_like(mask), step=0.0, counts=True).collapsed
    assert not measure(mask, mask, step=0.0, counts=True).collapsed
    # One other answer in all samples says nothing.
    rare = np.zeros((N, 1), int)
    rare[5] = 2
    assert not measure(rare, np.zeros_like(rare), step=0.0, counts=True).collapsed


# --- parts ----------------------------------------------------------------------------------------


def detections(scores=1.0):
    boxes = RNG.uniform(0, 640, (N, 20, 4))
    return np.concatenate([boxes, RNG.uniform(0, scores, (N, 20, 6))], axis=-1)


def test_scores_beside_boxes_starve():
    y = detections()
    error = measure(y, on_grid(y, 2.5), step=2.5).result()
    assert error.sqnr_db > 45
    boxes, scores = error.parts
    assert (boxes.part, scores.part) == ("[..., 0:4]", "[..., 4:10]")
    assert scores.steps == pytest.approx(0.4, rel=0.02)
    assert scores.spread_db < 0
    assert (boxes.starved, scores.starved) == (False, True)
    assert not boxes.collapsed
    # 16 bits: a hundred steps.
    fine = measure(y, on_grid(y, 0.01), step=0.01).result()
    assert [p.starved for p in fine.parts] == [False, False]


@pytest.mark.parametrize(
    ("spreads", "shape", "starved"),
    [
        ([256, 64, 16, 4, 1], (1, 5), "[..., 3:5]"),  # No gap between two of them.
        (([640] * 4 + [0.5] * 21) * 3, (1, 75), "[..., 4:25 of every 25]"),
        (([640] * 4 + [0.5] * 21) * 5, (1, 3, 3, 125), "[..., 4:25 of every 25]"),
        ([900] * 8 + [0.3] * 8, (16,), "[..., 8:16]"),
        ([900] * 1024 + [0.3] * 1024, (1, 2048), "[..., 1024:2048]"),
        (
            [9, 1e-3, 9, 9, 1e-3, 1e-3, 9, 1e-3, 9, 9, 9, 1e-3, 9],
            (1, 13),
            "[..., 1, 4, 5 and 2 more]",
        ),
    ],
)
def test_every_form_of_output_has_its_parts(spreads, shape, starved):
    y = RNG.uniform(-0.5, 0.5, (N, *shape)) * np.array(spreads)
    step = max(spreads) / 255
    meter = Meter("y", shape, step, grid=Grid("int8", (step,), (0,)))
    for v in y.astype(np.float32):
        meter.add(v, on_grid(v, step))
    result = meter.result()
    assert result.sqnr_db > 40
    assert [p.part for p in result.parts if p.starved] == [starved]


def test_exact_parts_do_not_starve():
    """Flags of 0 and 1 on a grid of step 1."""
    y = np.concatenate([RNG.integers(0, 200, (N, 4)), RNG.integers(0, 2, (N, 4))], axis=-1).astype(
        float
    )
    assert [p.starved for p in measure(y, y, step=1.0).result().parts] == [False, False]


def test_a_part_that_is_lost_collapsed_though_the_output_did_not():
    y = np.concatenate([normal(N, 30, 4, size=100), normal(N, 30, 4)], axis=-1)
    got = on_grid(y, 0.05)
    got[..., 4:] = normal(N, 30, 4)
    meter = measure(y, got, step=0.05)
    assert not meter.collapsed
    assert [p.collapsed for p in meter.result().parts] == [False, True]
    assert [p.starved for p in meter.result().parts] == [False, False]


def test_kernels_with_a_fixed_range_have_no_parts():
    y = np.concatenate([RNG.random((N, 4)), RNG.random((N, 6)) / 1000], axis=-1)
    assert measure(y, on_grid(y, 1 / 256), step=1 / 256, has_parts=False).result().parts == ()


def test_variation_is_that_of_a_calculation_by_hand():
    y, e = 7 + normal(N, 5, 3), normal(N, 5, 3, size=0.2)
    result = measure(y, y + e).result()
    y, e = y - y.mean(axis=0), e - e.mean(axis=0)
    assert result.variation_db == pytest.approx(10 * math.log10((y**2).sum() / (e**2).sum()), 1e-4)
    assert not result.constant
