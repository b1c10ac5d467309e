import numpy as np
import pytest

from tfq.calibrate.weight_rules import SCALE_FLOOR, weight_scales
from tfq.errors import ModelError, UsageError

RNG = np.random.default_rng(0)
DRAWS = {
    "normal": RNG.standard_normal((3, 3, 20, 8)),
    "laplace": RNG.laplace(size=(3, 3, 20, 8)),
    "heavy": RNG.standard_t(3, (3, 3, 20, 8)),
}


def errors(rows, scales, bits):
    top = 2 ** (bits - 1) - 1
    q = np.clip(np.round(rows / scales[:, None]), -top, top)
    return ((q * scales[:, None] - rows) ** 2).sum(axis=1)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("axis", [0, 3, -1])
def test_minmax_puts_the_largest_on_the_last_level(bits, axis):
    w = DRAWS["normal"].astype(np.float32)
    scales = weight_scales(w, axis=axis, bits=bits)
    largest = np.abs(np.moveaxis(w, axis, 0)).reshape(w.shape[axis], -1).max(axis=1)
    assert scales.dtype == np.float32
    np.testing.assert_allclose(scales * (2 ** (bits - 1) - 1), largest, rtol=1e-6)


DRAWS["outlier"] = RNG.standard_normal((3, 3, 20, 8))
DRAWS["outlier"][0, 0, 0] *= 60.0


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_mse_is_as_good_as_brute_force(draw, bits):
    w = DRAWS[draw].astype(np.float32)
    rows = np.moveaxis(w, 3, 0).reshape(8, -1).astype(np.float64)
    best = weight_scales(w, axis=3, bits=bits, rule="mse")
    plain = weight_scales(w, axis=3, bits=bits).astype(np.float64)
    brute = np.min([errors(rows, plain * f, bits) for f in np.geomspace(0.01, 1, 3000)], axis=0)
    found = errors(rows, best.astype(np.float64), bits)
    assert (found <= 1.02 * brute).all()
    assert (found <= errors(rows, plain, bits) * (1 + 1e-6)).all()


def test_three_levels_are_the_best_of_all_assignments():
    """Against every choice of which weights are not zero, each with its own best scale."""
    w = RNG.standard_normal((6, 9)).astype(np.float32)
    scales = weight_scales(w, axis=0, bits=2, rule="mse").astype(np.float64)
    chosen = (np.arange(1, 2**9)[:, None] >> np.arange(9)) & 1
    for row, scale in zip(np.abs(w.astype(np.float64)), scales, strict=True):
        means = chosen @ row / chosen.sum(axis=1)
        least = ((means[:, None] * chosen - row) ** 2).sum(axis=1).min()
        assert errors(row[None], np.array([scale]), 2)[0] == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("rule", ["minmax", "mse"])
def test_per_tensor(rule):
    w = DRAWS["laplace"].astype(np.float32)
    scales = weight_scales(w, axis=None, bits=8, rule=rule)
    assert scales.shape == (1,)
    np.testing.assert_array_equal(
        scales, weight_scales(w.reshape(1, -1), axis=0, bits=8, rule=rule)
    )


@pytest.mark.parametrize("rule", ["minmax", "mse"])
def test_scales_have_a_floor(rule):
    w = np.zeros((4, 6), np.float32)
    assert (weight_scales(w, axis=0, bits=8, rule=rule) == np.float32(SCALE_FLOOR)).all()
    w[0] = 127.0
    w[1] = 1e-12
    scales = weight_scales(w, axis=0, bits=8, rule=rule)
    np.testing.assert_allclose(scales, [1.0, 1e-6, 1e-6, 1e-6], rtol=0.02)
    assert weight_scales(np.zeros((3, 0), np.float32), axis=0, bits=8, rule=rule).shape == (3,)


def test_blocks_do_not_change_the_search(monkeypatch):
    w = DRAWS["heavy"].astype(np.float32)
    whole = weight_scales(w, axis=3, bits=4, rule="mse")
    monkeypatch.setattr("tfq.calibrate.weight_rules._BLOCK", 400)
    np.testing.assert_array_equal(weight_scales(w, axis=3, bits=4, rule="mse"), whole)


def test_errors():
    w = np.ones((2, 2), np.float32)
    with pytest.raises(UsageError, match=r"weight rule 'mes'.*Did you mean 'mse'"):
        weight_scales(w, axis=0, bits=8, rule="mes")
    with pytest.raises(UsageError, match="2 to 16 bits"):
        weight_scales(w, axis=0, bits=1)
    w[1, 1] = np.nan
    with pytest.raises(ModelError, match="NaN"):
        weight_scales(w, axis=0, bits=8)
