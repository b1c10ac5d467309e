import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfq.data import ArgSpec, RetainedSamples, Sample, held_back, open_data, split
from tfq.data.retain import mix, mix_all


def sample(index, values=1):
    return Sample(index, {"x": np.full((1, values), index, np.float32)})


def kept(indices, **options):
    retained = RetainedSamples(**options)
    for i in indices:
        retained.offer(sample(i))
    return [s.index for s in retained.samples]


@given(st.permutations(range(40)), st.integers(0, 45), st.integers(0, 5))
def test_retained_do_not_depend_on_the_order(order, limit, seed):
    result = kept(order, limit=limit, seed=seed)
    assert result == kept(range(40), limit=limit, seed=seed)
    assert result == sorted(result)
    assert len(result) == min(limit, 40)


def test_retained_are_the_same_on_every_machine():
    assert kept(range(1000), limit=5) == [250, 286, 728, 781, 844]


def test_every_sample_is_retained_about_equally_often():
    counts = np.bincount(
        np.concatenate([kept(range(50), limit=10, seed=seed) for seed in range(1000)]),
        minlength=50,
    )
    assert counts.sum() == 10_000
    assert counts.min() > 140  # 200 expected, standard deviation 12.6.
    assert counts.max() < 260


def test_retained_memory_is_bounded():
    retained = RetainedSamples(limit=100, max_bytes=1000)
    for i in range(50):
        retained.offer(sample(i, values=50))  # 200 bytes each.
    assert len(retained) == len(retained.samples) == 5
    huge = RetainedSamples(max_bytes=10)
    huge.offer(sample(0, values=50))
    assert len(huge) == 1


@pytest.mark.parametrize("count", [None, *range(48, 90), 200, 257, 5000])
def test_held_back_leave_most_to_calibration(count):
    held = [i for i in range(count or 5000) if held_back(i, count)]
    assert 1 <= len(held) <= 32
    assert len(held) <= -(-(count or 5000) // 8)
    if count is None:
        assert min(held) >= 48
        assert len(held) == 32
    elif count > 256:
        assert len(held) >= 28
        assert max(held) > count * 0.9


def test_few_samples_are_all_for_calibration():
    assert not any(held_back(i, 47) for i in range(47))
    assert not any(held_back(i, 100, 0) for i in range(100))


@pytest.mark.parametrize("period", [2, 4, 8])
def test_held_back_meet_every_class_of_alternating_data(period):
    assert {i % period for i in range(256) if held_back(i, 256)} == set(range(period))


def test_split_streams_everything_once():
    spec = ArgSpec("x", "x", (1, 1), "float32")
    pairs = list(split(open_data(np.arange(64.0)[:, None], [spec])))
    assert [s.index for s, _ in pairs] == list(range(64))
    assert sum(held for _, held in pairs) == 8


def test_hashes_of_an_array_are_those_of_its_numbers():
    numbers = np.array([0, 1, 7, 2**32, 2**63, 2**64 - 1], np.uint64)
    assert mix_all(numbers).tolist() == [mix(int(n)) for n in numbers]
