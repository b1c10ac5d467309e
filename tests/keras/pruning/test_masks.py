"""Masks against brute force: exact counts, ties, groups and blocks."""

import numpy as np
import pytest

from tfq.errors import UsageError
from tfq.keras.pruning import masks

pytestmark = pytest.mark.slow


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.7, 0.999])
def test_unstructured_keeps_the_largest(sparsity: float) -> None:
    w = weights(3, 7, 5)
    keep = masks.unstructured(w, sparsity)
    assert (~keep).sum() == int(np.floor(sparsity * w.size + 0.5))
    if 0 < keep.sum() < w.size:
        assert np.abs(w[keep]).min() >= np.abs(w[~keep]).max()


def test_ties_are_exact_and_go_by_position() -> None:
    keep = masks.unstructured(np.ones((1, 4, 5), np.float32), 0.35)
    assert keep.ravel().tolist() == [False] * 7 + [True] * 13


def test_lowest_equals_a_stable_sort() -> None:
    scores = np.random.default_rng(1).integers(0, 5, 200).astype(float)
    for count in range(0, 201, 13):
        expected = np.zeros(200, bool)
        expected[np.argsort(scores, kind="stable")[:count]] = True
        np.testing.assert_array_equal(masks.lowest(scores, count), expected)


@pytest.mark.parametrize(("n", "m", "inputs"), [(2, 4, 8), (2, 4, 11), (1, 4, 9), (3, 8, 5)])
def test_n_of_m_keeps_the_best_of_each_group(n: int, m: int, inputs: int) -> None:
    w = weights(2, inputs, 3)
    keep = masks.n_of_m(w, n, m)
    for p in range(2):
        for o in range(3):
            for start in range(0, inputs, m):
                group = np.abs(w[p, start : start + m, o])
                kept = keep[p, start : start + m, o]
                assert kept.sum() == min(n, len(group))
                assert set(np.flatnonzero(kept)) == set(np.argsort(-group)[:n])


def test_a_share_of_the_groups_is_pruned_where_least_is_lost() -> None:
    w = weights(1, 8, 10)
    keep = masks.n_of_m(w, 2, 4, share=0.5)
    groups = ~keep.reshape(2, 4, 10).all(axis=1)
    assert groups.sum() == 10
    loss = np.sort(np.abs(w).reshape(2, 4, 10), axis=1)[:, :2].sum(axis=1)
    assert loss[groups].max() <= loss[~groups].min()


@pytest.mark.parametrize("shape", [(4, 1), (2, 3), (1, 8)])
def test_blocks_go_as_one(shape: tuple[int, int]) -> None:
    w = weights(3, 5, 7)
    keep = masks.block(w, shape, 0.5).reshape(15, 7)
    matrix = np.abs(w.reshape(15, 7))
    means, zero = [], []
    for r in range(0, 15, shape[0]):
        for c in range(0, 7, shape[1]):
            part = keep[r : r + shape[0], c : c + shape[1]]
            assert part.all() or not part.any()
            zero.append(not part.any())
            means.append(matrix[r : r + shape[0], c : c + shape[1]].mean())
    chosen, value = np.array(zero), np.array(means)
    assert chosen.sum() == int(np.floor(0.5 * len(zero) + 0.5))
    assert value[chosen].max() <= value[~chosen].min()


def test_patterns_by_name() -> None:
    assert masks.parse_n_of_m("2:4") == (2, 4)
    assert masks.parse_n_of_m("block") is None
    with pytest.raises(UsageError, match="4:2"):
        masks.parse_n_of_m("4:2")
