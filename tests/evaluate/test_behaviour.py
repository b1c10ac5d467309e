"""Small changes of the input."""

import numpy as np
import pytest

from tfq.evaluate.behaviour import PROBES, Steps, changed, chosen, distance, thinned

BY_NAME = {p.name: p for p in PROBES}
STEPS = Steps({"x": 0.5, "n": 0.0}, {"x": 100.0, "n": 0.0}, ("x",))


def images(count=3):
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(0, 1, (count, 5, 6, 3)).astype(np.float32),
        "n": np.arange(count, dtype=np.int32).reshape(count, 1),
    }


def test_noise_is_at_most_one_step_and_a_function_of_the_sample_alone():
    samples = images(4)
    noisy = changed(BY_NAME["noise"], samples, np.array([7, 8, 9, 10]), STEPS, seed=1)
    off = (noisy["x"] - samples["x"]) / 0.5
    assert set(np.rint(off).astype(int).ravel()) == {-1, 0, 1}
    np.testing.assert_allclose(off, np.rint(off), atol=1e-5)
    np.testing.assert_array_equal(noisy["n"], samples["n"])
    alone = changed(
        BY_NAME["noise"], {n: v[2:3] for n, v in samples.items()}, np.array([9]), STEPS, seed=1
    )
    np.testing.assert_array_equal(alone["x"][0], noisy["x"][2])
    other = changed(BY_NAME["noise"], samples, np.array([7, 8, 9, 10]), STEPS, seed=2)
    assert not np.array_equal(other["x"], noisy["x"])


def test_brightness_and_shift():
    samples = images()
    brighter = changed(BY_NAME["brighter"], samples, np.arange(3), STEPS, seed=0)
    np.testing.assert_allclose(brighter["x"], samples["x"] + 2.0, rtol=1e-6)
    moved = changed(BY_NAME["shift"], samples, np.arange(3), STEPS, seed=0)["x"]
    np.testing.assert_array_equal(moved[:, :, 1:], samples["x"][:, :, :-1])
    np.testing.assert_array_equal(moved[:, :, 0], samples["x"][:, :, 0])
    assert not np.shares_memory(moved, samples["x"])


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_the_choice_of_samples_does_not_depend_on_how_they_are_split(size):
    whole = chosen(0, 1000, 1000, 100, seed=0)
    parts = [s + chosen(s, min(size, 1000 - s), 1000, 100, seed=0) for s in range(0, 1000, size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert 70 <= len(whole) <= 130
    assert not np.array_equal(whole, chosen(0, 1000, 1000, 100, seed=1))


def test_few_samples_are_all_chosen():
    assert len(chosen(0, 50, 50, 100, seed=0)) == 50
    assert len(chosen(0, 50, None, 100, seed=0)) == 50
    assert len(chosen(0, 50, 50, 0, seed=0)) == 0


def test_at_least_one_is_chosen_in_whatever_blocks():
    for seed in range(40):
        whole = chosen(0, 12, 12, 1, seed)
        assert 1 <= len(whole) < 8
        parts = [s + chosen(s, 3, 12, 1, seed) for s in range(0, 12, 3)]
        assert np.concatenate(parts).tolist() == whole.tolist()
        assert thinned(whole.tolist(), 12, 1, seed) == list(range(len(whole)))
        assert len(chosen(0, 12, None, 1, seed)) >= 1


def test_of_unknown_many_some_are_chosen_everywhere_and_thinned_to_the_same():
    some = chosen(0, 10_000, None, 100, seed=0)
    # 100 (1 + ln(10000 / 100)) are expected.
    assert 480 <= len(some) <= 640
    assert np.sum(some > 5000) > 40
    parts = [s + chosen(s, 77, None, 100, seed=0) for s in range(0, 9933, 77)]
    np.testing.assert_array_equal(np.concatenate(parts), some[some < 129 * 77])
    even = some[thinned(some.tolist(), 10_000, 100, seed=0)]
    np.testing.assert_array_equal(even, chosen(0, 10_000, 10_000, 100, seed=0))


def test_distance():
    before, after = np.zeros((2, 3)), np.array([[3.0, 0, 4.0], [0, 0, 0]])
    np.testing.assert_allclose(distance(before, after), [5, 0])
