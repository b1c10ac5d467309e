"""Slices that hide behind larger ones are found, others are not."""

import dataclasses

import numpy as np
import pytest

from tfq.parts import ChannelSums, channel_axis, decibel, find_slices, spreads


def names(spread, axis=2, rank=3):
    return [str(s) for s in find_slices(np.asarray(spread, float), axis, rank)]


@pytest.mark.parametrize(
    ("spread", "expected"),
    [
        ([640, 600, 300, 320, 1, 0.9, 0.5, 0.3], ["[..., 0:4]", "[..., 4:8]"]),
        ([640, 600, 0, 320, 1, 0, 0.5], ["[..., 0:4]", "[..., 4:7]"]),  # Constant ones go along.
        ([0, 0, 100, 1], ["[..., 0:3]", "[..., 3:4]"]),
        ([1, 1, 100, 100, 1], ["[..., 0:2]", "[..., 2:4]", "[..., 4:5]"]),
        # Rare classes differ among themselves by less than from boxes.
        ([640, 640, 0.9, 1e-3, 0.02, 2e-3], ["[..., 0:2]", "[..., 2:6]"]),
        # Landmarks: x, y, visibility.
        ([224, 200, 1] * 20, ["[..., 0:60:3]", "[..., 1:60:3]", "[..., 2:60:3]"]),
        ([1, 2, 4, 8, 16, 32, 64], ["[..., 0:1]", "[..., 1:7]"]),  # No gap, but a long chain.
        ([256, 64, 16, 4, 1], ["[..., 0:3]", "[..., 3:5]"]),
        ([2, 4, 8, 16, 32, 64], []),  # Eight steps are left of all.
        # Five anchors of a box and scores; and of a box, one score and landmarks.
        (([640] * 4 + [0.5] * 21) * 5, ["[..., 0:4 of every 25]", "[..., 4:25 of every 25]"]),
        (
            ([640] * 4 + [1] + [640] * 10) * 4,
            ["[..., 0:4 of every 15]", "[..., 4:5 of every 15]", "[..., 5:15 of every 15]"],
        ),
        ([5, 7, 6, 3], []),
        ([50, 40, 1e-5, 60], []),  # A coordinate that is zero by definition.
        ([5, 0, 0], []),
        ([0, 0], []),
    ],
)
def test_parts_by_spread(spread, expected):
    assert names(spread) == expected


def test_what_is_in_no_order_is_the_channels_on_both_sides():
    order = np.random.default_rng(0).permutation([1.0] * 50 + [1000.0] * 50)
    wide, narrow = find_slices(order, 2, 3)
    assert set(order[wide.channels]) == {1000}
    assert set(order[narrow.channels]) == {1}
    assert str(narrow) == "[..., {}, {}, {} and 47 more]".format(*np.flatnonzero(order == 1)[:3])
    # Of a chain in no order there are no sides.
    assert names(np.random.default_rng(0).permutation(2 ** np.linspace(0, 9, 100))) == []


def test_channels_of_every_period():
    _, scores = find_slices(np.array(([640.0] * 4 + [0.5] * 21) * 5), 1, 3)
    values = np.arange(125).reshape(1, 125, 1) * np.ones((2, 1, 3))
    expected = values.reshape(2, 5, 25, 3)[:, :, 4:].reshape(2, 105, 3)
    np.testing.assert_array_equal(scores.of(values), expected)


def test_another_axis_is_named():
    assert names([640, 1], axis=1) == ["[..., 0:1, :]", "[..., 1:2, :]"]
    shapes = {
        (1, 84, 8400): 1,
        (1, 8400, 84): 2,
        (1, 2000): 1,
        (8, 2000): 1,
        (1, 1, 2000): 2,
        (1, 3000, 2000): 2,
        (4,): 0,
        (1, 1): None,
        (1,): None,
        (): None,
    }
    assert {s: channel_axis(s) for s in shapes} == shapes


def test_float_rounding_is_no_spread():
    low, high = np.array([100.0, -1.0, 0.0]), np.array([100.0001, 1.0, 0.0])
    np.testing.assert_array_equal(spreads(low, high), [0, 2, 0])


@pytest.mark.parametrize("shape", [(1, 5, 4), (1, 4, 2000), (1, 3), (7,), (1, 20, 1100), (1, 1)])
def test_sums_of_blocks_are_those_of_arrays(shape):
    rng = np.random.default_rng(1)
    a, b = ChannelSums(shape), ChannelSums(shape)
    axis = channel_axis(shape)
    scale = np.ones(shape[axis] if axis is not None else 1)
    scale[-1] = 1e-3
    form = [1] * len(shape)
    if axis is not None:
        form[axis] = -1
    block = (2, *shape[1:]) if len(shape) > 1 else shape
    blocks = [rng.normal(3, 1, block) * scale.reshape(form) for _ in range(3)]
    got = [x + rng.normal(0, 0.01, x.shape) for x in blocks]
    for x, y in zip(blocks[:2], got[:2], strict=True):
        a.add(x, y)
    b.add(blocks[2], got[2])
    a.merge(b)
    x, y = (np.concatenate(v) if len(shape) > 1 else np.stack(v) for v in (blocks, got))
    assert a.power.sum() == pytest.approx((x * x).sum())
    assert a.error.sum() == pytest.approx(((x - y) ** 2).sum())
    if axis is None:
        assert a.parts() == ()
        return
    assert len(a.parts()) == 2
    for p in a.parts():
        at = dataclasses.replace(p.part, axis=x.ndim - len(shape) + axis)
        e, g = at.of(x), at.of(y)
        others = tuple(i for i in range(e.ndim) if i != at.axis)
        varying = e - e.mean(axis=others, keepdims=True)
        noise = np.square(e - g).sum()
        assert (p.low, p.high) == (e.min(), e.max())
        assert p.max_abs == pytest.approx(np.abs(e - g).max())
        assert p.sqnr_db == pytest.approx(10 * np.log10(np.square(e).sum() / noise))
        assert p.spread_db == pytest.approx(10 * np.log10(np.square(varying).sum() / noise))


def test_decibels_of_errors_without_bound():
    assert decibel(100.0, 1.0) == pytest.approx(20)
    assert decibel(1.0, 0.0) == np.inf
    assert decibel(1.0, np.inf) == decibel(0.0, 1e300) == -np.inf
    assert np.isnan(decibel(np.nan, np.nan))
