"""Figures of any number of samples."""

import numpy as np
import pytest

from tfq.evaluate.store import Store


@pytest.mark.parametrize("memory", [0, 100, 1000, 1 << 20])
def test_what_is_read_is_what_was_added_wherever_it_was_kept(memory):
    rng = np.random.default_rng(0)
    parts = {
        "scores": [rng.normal(0, 1, (n, 3)).astype(np.float32) for n in (4, 1, 0, 7, 20)],
        "hits": [rng.integers(0, 2, n).astype(np.uint8) for n in (4, 1, 0, 7, 20)],
    }
    with Store(memory) as store:
        for i in range(5):
            for key, values in parts.items():
                store.add(key, values[i])
        assert sorted(store.names()) == ["hits", "scores"]
        for key, values in parts.items():
            got = store.read(key)
            np.testing.assert_array_equal(got, np.concatenate(values))
            assert got.dtype == values[0].dtype
            if memory == 0:
                assert isinstance(got, np.memmap)
            if memory == 1 << 20:
                assert not isinstance(got, np.memmap)


def test_memory_holds_no_more_than_its_limit():
    with Store(10_000) as store:
        for _ in range(100):
            store.add("x", np.ones((10, 25), np.float32))
        held = sum(p.nbytes for parts in store._parts.values() for p in parts)
        assert held <= 10_000
        assert store.read("x").shape == (1000, 25)
        assert store.read("x").sum() == 25_000
