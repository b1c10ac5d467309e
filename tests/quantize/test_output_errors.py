"""Errors by output, part and sample; and that nothing is kept that makes one worse."""

import numpy as np
import pytest
from small_models import ACT, Net, config_of, draw, plan_of

from tfq.graph.boundary import InputQuantizer, dequantized
from tfq.quantize.bias import correct_biases
from tfq.quantize.output_errors import output_errors
from tfq.runtime import Runner


def several(seed):
    """Layers one behind the other, each with an output of its own; some squashed, one joined."""
    net = Net(seed)
    size = float(2.0 ** net.rng.integers(-2, 4))
    x = net.input(1, 16, name="x")
    y = net.dense(x, 24, act=ACT.RELU, out="a")
    outputs = [net.op("LOGISTIC", net.dense(y, 3, out="arg"), out="score")]
    for i in range(3):
        y = net.dense(y, 24, act=ACT.RELU if i % 2 else 0, out=f"b{i}")
        outputs.append(net.dense(y, 5, out=f"y{i}"))
    wide = net.dense(y, 4, weights=net.rng.normal(0, 5 * size, (4, 24)), out="wide")
    outputs.append(net.concat(wide, net.dense(y, 4, out="narrow"), out="joint"))
    return net.bytes(*outputs)


def decibels(planned, emitted, samples):
    """Of every output, and of both halves of the last."""
    model = emitted.model
    a, b, feed = Runner(planned.prepared.bytes), Runner(model.to_bytes()), InputQuantizer(model)
    sums = {}
    for s in samples:
        expected, got = a.run(s), dequantized(model, b.run(feed(s)))
        for name, e in expected.items():
            parts = {name: slice(None)}
            if name == "joint":
                parts |= {"boxes": slice(0, 4), "scores": slice(4, 8)}
            for part, at in parts.items():
                power, error = sums.get(part, (0.0, 0.0))
                off = e[..., at].astype(float) - got[name][..., at]
                sums[part] = (power + (e[..., at] ** 2).sum(), error + (off**2).sum())
    return {n: 10 * np.log10(p / max(e, 1e-30)) for n, (p, e) in sums.items()}


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_errors_are_those_of_a_calculation_by_hand(io):
    planned = plan_of(several(0), config=config_of(output_type=io))
    emitted = planned.emit()
    samples = draw(planned.prepared.bytes, 12, seed=4)
    found = {
        (e.output, e.part): e
        for e in output_errors(planned.prepared.model, planned.prepared.bytes, emitted, samples)
    }
    assert ("score", "before LOGISTIC") in found
    wanted = decibels(planned, emitted, samples)
    for name in ("score", "y0", "y1", "y2", "joint"):
        e = found[name, ""]
        assert e.errors.shape == (12,)
        assert 10 * np.log10(e.powers.sum() / e.errors.sum()) == pytest.approx(wanted[name], 1e-4)
        if name != "score":
            size = 8 if name == "joint" else 5
            step = planned.grid(name).scale[0]
            assert e.floor == pytest.approx(size * step**2 / 12, 1e-6)
    parts = [p for o, p in found if o == "joint" and p]
    assert parts == ["[..., 0:4]", "[..., 4:8]"]


def test_nothing_kept_makes_an_output_worse_on_samples_held_back():
    """Small random networks with five outputs; the biases are off, so that there is something to
    correct."""
    kept = 0
    for seed in range(12):
        planned = plan_of(several(seed), draw(several(seed), 60))
        emitted = planned.emit()
        rng = np.random.default_rng(seed)
        for name in rng.choice(list(emitted.biases), 2, replace=False):
            bias, scale = emitted.biases[name], planned.plan.ops[name].edges[2].scale
            off = rng.normal(0, 0.05, bias.values().shape)
            bias.data = (bias.values() + np.rint(off / scale)).astype(np.int32)
        samples = draw(several(seed), 120, seed=seed + 100)
        float_model = planned.prepared.model, planned.prepared.bytes
        before = output_errors(*float_model, emitted, samples[80:])
        result = correct_biases(*float_model, emitted, samples[:12], samples[60:80])
        after = output_errors(*float_model, emitted, samples[80:])
        kept += result.layers > 0
        for b, a in zip(before, after, strict=True):
            off = a.errors - b.errors
            if not result.layers:
                assert not off.any()
            # In 150 comparisons three standard errors leave room for no more than luck.
            luck = 3 * off.std(ddof=1) / len(off) ** 0.5
            assert off.mean() <= max(luck, a.floor), (seed, a.output, a.part)
    assert kept >= 4
