import itertools

import numpy as np
import pytest

from tfq.errors import DataError
from tfq.observe import OrderedSums

# Sums of these depend on the order.
VALUES = np.random.default_rng(0).standard_normal((11, 3)) * 10.0 ** np.arange(-5, 6)[:, None]
BLOCKS = ((0, 4), (4, 5), (5, 9), (9, 11))


def block(start, end):
    sums = OrderedSums()
    sums.begin(start)
    for n in range(start, end):
        sums.add(n, VALUES[n], 1.0)
    return sums


def in_one_go():
    sums = OrderedSums()
    for start, end in BLOCKS:
        sums.begin(start)
        for n in range(start, end):
            sums.add(n, VALUES[n], 1.0)
    return sums


def state(sums):
    total, count = sums.totals()
    return total.tobytes(), float(count), sums.samples


def test_the_order_of_merging_changes_no_bit():
    expected = state(in_one_go())
    assert expected[1:] == (11.0, 11)
    np.testing.assert_allclose(in_one_go().totals()[0], VALUES.sum(axis=0))
    for order in itertools.permutations(BLOCKS):
        sums = OrderedSums()
        for b in order:
            sums.merge(block(*b))
        assert state(sums) == expected


def test_merging_is_associative():
    for order in itertools.permutations(BLOCKS):
        a, b, c, d = (block(*x) for x in order)
        a.merge(b)
        c.merge(d)
        c.merge(a)
        assert state(c) == state(in_one_go())


def test_what_was_merged_stays_as_it_was():
    a, b = block(0, 4), block(4, 5)
    before = state(b)
    a.merge(b)
    a.begin(5)
    a.add(5, VALUES[5], 1.0)
    a.begin(6)
    assert state(b) == before


def test_a_sample_counts_once():
    for a, b in (((0, 4), (0, 4)), ((5, 9), (5, 9))):
        with pytest.raises(DataError, match=f"Sample {a[0]} was seen on both sides"):
            block(*a).merge(block(*b))
    whole = block(0, 4)
    whole.merge(block(4, 5))
    with pytest.raises(DataError, match="Sample 3 was seen"):
        whole.merge(block(3, 4))


def test_nothing_adds_up_to_nothing():
    empty = OrderedSums()
    assert empty.totals() == ()
    sums = block(0, 4)
    sums.merge(empty)
    assert state(sums) == state(block(0, 4))
