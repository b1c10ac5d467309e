"""A change is kept where nothing loses and something gains."""

import numpy as np
import pytest

from tfq.improve import PartError
from tfq.improve.judge import judge_change as judge_parts

N = 16


def part(errors, output="y", name="", floor=0.0):
    errors = np.broadcast_to(np.asarray(errors, float), (N,))
    return PartError(output, name, errors, np.full(N, 100.0), floor)


def judge_change(before, after):
    return judge_parts(*({(p.output, p.part): p for p in parts} for parts in (before, after)))


def noisy(mean, spread=0.2, seed=0):
    return mean * np.exp(np.random.default_rng(seed).normal(0, spread, N))


def test_four_outputs_gain_and_one_is_ruined():
    """The mean over outputs falls by a quarter; decibels of the last fall from 13.7 to -6.3."""
    before = [part(noisy(40.0, seed=i), str(i)) for i in range(4)] + [part(noisy(4.27), "last")]
    after = [part(noisy(5.0, seed=i + 9), str(i)) for i in range(4)] + [part(noisy(427.0), "last")]
    verdict = judge_change(before, after)
    assert verdict.score < 0
    assert not verdict.kept
    assert [c.gains for c in verdict.changes] == [True] * 4 + [False]
    assert verdict.worst is not None
    assert verdict.worst.output == "last"
    assert verdict.worst.before_db == pytest.approx(13.7, abs=0.3)
    assert verdict.worst.after_db == pytest.approx(-6.3, abs=0.3)
    assert verdict.worst.loss_db == pytest.approx(20, abs=0.1)
    assert judge_change(before[:4], after[:4]).kept


def test_a_part_that_loses_is_enough():
    before = [part(1.0), part(0.9, name="[..., 0:4]"), part(0.1, name="[..., 4:6]")]
    after = [part(0.5), part(0.2, name="[..., 0:4]"), part(0.3, name="[..., 4:6]")]
    verdict = judge_change(before, after)
    assert not verdict.kept
    assert verdict.worst is not None
    assert verdict.worst.part == "[..., 4:6]"


def test_what_changes_nothing_is_not_kept():
    assert not judge_change([part(1.0)], [part(1.0)]).kept
    assert not judge_change([part(0.0)], [part(0.0)]).kept
    assert not judge_change([], []).kept


@pytest.mark.parametrize("seed", range(5))
def test_a_gain_within_noise_is_none(seed):
    verdict = judge_change([part(noisy(1.0, 1.0, seed))], [part(noisy(0.95, 1.0, seed + 50))])
    assert not verdict.changes[0].gains


def test_pairs_show_a_gain_that_means_would_not():
    """Samples differ by a factor of e; each gains 10 %."""
    errors = noisy(1.0, 1.0)
    assert judge_change([part(errors)], [part(errors * 0.9)]).kept
    assert not judge_change([part(errors)], [part(errors * 1.1)]).kept


def test_one_terrible_sample_is_a_loss_though_most_gain():
    after = np.full(N, 0.8)
    after[3:5] = 400.0
    verdict = judge_change([part(1.0)], [part(after)])
    assert verdict.changes[0].loses


def test_small_losses_within_noise_are_none_and_large_ones_need_less_proof():
    """Of 16 samples, one of which differs, the mean is about its standard error."""
    one = np.ones(N)
    one[3] = 4.0  # 0.7 dB of the sum
    assert not judge_change([part(1.0)], [part(one)]).changes[0].loses
    one[3] = 20.0  # 3.4 dB
    assert judge_change([part(1.0)], [part(one)]).changes[0].loses


@pytest.mark.parametrize(("samples", "kept"), [(4, False), (40, True)])
def test_of_few_samples_little_is_sure(samples, kept):
    """0.9 dB are gained in the mean: 2.2 standard errors where there are four."""
    after = np.tile(10 ** np.array([-0.13, -0.13, -0.13, 0.03]), samples // 4)
    before, powers = np.ones(samples), np.full(samples, 100.0)
    errors = [PartError("y", "", e, powers) for e in (before, after)]
    assert judge_change([errors[0]], [errors[1]]).kept is kept


@pytest.mark.parametrize(("mean", "off", "loses"), [(0.6, 2.2, True), (0.35, 1.0, False)])
def test_what_may_well_lose_a_decibel_loses(mean, off, loses):
    """In dB, half the samples off by so much either way; 16 samples."""
    after = 10 ** (np.tile([mean - off, mean + off], N // 2) / 10)
    assert judge_change([part(1.0)], [part(after)]).changes[0].loses is loses


def test_below_a_grids_own_rounding_nothing_is_lost():
    assert not judge_change([part(0.0, floor=1.0)], [part(0.9, floor=1.0)]).changes[0].loses
    assert judge_change([part(0.0)], [part(0.9)]).changes[0].loses


def test_a_coarser_grid_loses_though_errors_are_at_its_rounding():
    (change,) = judge_change([part(0.01, floor=0.01)], [part(1.0, floor=1.0)]).changes
    assert change.loses
    assert change.loss_db == pytest.approx(20)
    assert judge_change([part(1.0, floor=1.0)], [part(0.01, floor=0.01)]).kept


def test_one_sample_is_taken_at_its_word():
    one = [PartError("y", "", np.array([1.0]), np.array([9.0]))]
    better = [PartError("y", "", np.array([0.5]), np.array([9.0]))]
    assert judge_change(one, better).kept
    assert not judge_change(better, one).kept


def test_infinity_loses():
    assert judge_change([part(1.0)], [part(np.nan)]).changes[0].loses
