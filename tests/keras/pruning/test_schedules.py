"""Schedules against their formula and against tensorflow-model-optimization's."""

import numpy as np
import pytest

from tfq.errors import UsageError
from tfq.keras.pruning import ConstantSparsity, PolynomialDecay

pytestmark = pytest.mark.slow


def test_polynomial_decay_is_that_of_model_optimization() -> None:
    peer = pytest.importorskip(
        "tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule",
        reason="pip install tensorflow-model-optimization",
    )
    theirs = peer.PolynomialDecay(0.2, 0.8, 10, 110, power=3, frequency=10)
    ours = PolynomialDecay(0.2, 0.8, 10, 110, frequency=10)
    for step in (10, 11, 50, 109, 110, 500):
        expected = float(theirs(np.int64(step))[1])
        assert ours.final * ours.progress(step) == pytest.approx(expected, abs=1e-6)
    assert ours.progress(9) == 0


@pytest.mark.parametrize("stride", [1, 3, 7, 200])
def test_masks_are_due_every_so_many_steps_and_at_the_end(stride: int) -> None:
    schedule = PolynomialDecay(0.0, 0.8, 10, 45, frequency=10)
    events = [10, 20, 30, 40, 45]
    for before in range(0, 100, stride):
        now = before + stride
        assert schedule.due(before, now) == any(before < e <= now for e in events), (before, now)


def test_constant_sparsity_comes_at_one_step() -> None:
    schedule = ConstantSparsity(0.5, begin_step=3)
    assert [schedule.progress(s) for s in (0, 2, 3, 9)] == [0, 0, 1, 1]
    assert [schedule.due(s, s + 1) for s in range(4)] == [False, False, True, False]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ConstantSparsity(1.0), "1.0"),
        (lambda: ConstantSparsity(True), "True"),
        (lambda: ConstantSparsity(0.5, -1), "begin_step=-1"),
        (lambda: PolynomialDecay(0.9, 0.5, 0, 10), "initial=0.9"),
        (lambda: PolynomialDecay(0.0, 0.5, 10, 10), "end_step must come after"),
        (lambda: PolynomialDecay(0.0, 0.5, 10, 5), "end_step=5"),
        (lambda: PolynomialDecay(0.0, 0.5, 0, 5, frequency=0), "frequency=0"),
    ],
)
def test_wrong_schedules_are_refused(make, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()
