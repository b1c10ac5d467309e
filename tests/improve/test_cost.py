"""What improvements are said to cost."""

import pytest

from tfq.improve.cost import Cost, Speed, announcement, times

SPEED = Speed(build=0.5, calibration=20.0, sample=0.1, multiplications=1e8)


@pytest.mark.parametrize(
    ("cost", "seconds"),
    [
        (Cost(trials=2), 2 * (0.5 + 30 * 0.1)),
        (Cost(calibrations=2), 40.0),
        (Cost(runs=50), 5.0),
        (Cost(multiplications=3e9), 3.0),
        (Cost(trials=2) + Cost(calibrations=2, runs=50) + Cost(multiplications=3e9), 55.0),
    ],
)
def test_seconds_are_of_what_was_measured(cost, seconds):
    assert SPEED.seconds(cost, judged=30) == pytest.approx(seconds)


def test_a_small_network_is_no_measure_of_how_fast_matrices_multiply():
    small = Speed(build=0.5, calibration=1.0, sample=0.01, multiplications=1e3)
    assert small.seconds(Cost(multiplications=1e9), judged=30) == pytest.approx(1.0)


def test_no_seconds_are_said_where_nothing_was_measured():
    given = Speed(build=0.5, calibration=0.0, sample=0.0, multiplications=1e8)
    assert announcement(Cost(trials=3), given.seconds(Cost(trials=3), judged=30)) == (
        "Improving: at most 3 trials"
    )


@pytest.mark.parametrize(
    ("trials", "seconds", "text"),
    [
        (1, 0.02, "Improving: at most 1 trial and some 1 s"),
        (31, 12.2, "Improving: at most 31 trials and some 13 s"),
        (200, 250.0, "Improving: at most 200 trials and some 4 min"),
    ],
)
def test_announcement(trials, seconds, text):
    assert announcement(Cost(trials=trials), seconds) == text


def test_times():
    assert [times(1), times(12)] == ["once", "12 times"]
