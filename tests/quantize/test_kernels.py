"""Emitted layers against integer arithmetic in numpy, and the kernels against each other."""

import math

import numpy as np
import pytest
from small_models import ACT, Net, config_of, plan_of

from tfq.runtime import Runner


def multiplier(real: float) -> tuple[int, int]:
    """A real multiplier as a 31-bit integer and a power of two, as TFLite's QuantizeMultiplier."""
    mantissa, shift = math.frexp(real)
    fixed = round(mantissa * 2**31)
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    return fixed, shift


def requantized(acc: np.ndarray, real: float, *, single: bool) -> np.ndarray:
    """acc * real as TFLite's reference kernels round it: twice, or (when so built) once."""
    fixed, shift = multiplier(real)
    acc = acc.astype(object) if shift > 20 else acc.astype(np.int64)
    if single:
        total = 31 - shift
        return (acc * fixed + (1 << (total - 1))) >> total
    left, right = max(shift, 0), max(-shift, 0)
    product = (acc << left) * fixed
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # gemmlowp's rounding doubling high multiplication divides towards zero.
    high = np.trunc((product + nudge) / 2**31).astype(np.int64)
    if not right:
        return high
    mask = (1 << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + ((high & mask) > threshold)


def expected(op, x, *, single):
    """The integers a VALID, stride 1 layer gives."""
    w, b = op.input(1).values().astype(np.int64), op.input(2).values().astype(np.int64)
    q = x.astype(np.int64) - int(op.input(0).quant.zero_point[0])
    if op.name == "FULLY_CONNECTED":
        acc = q @ w.T
    else:
        k = w.shape[1]
        h, wide = q.shape[1] - k + 1, q.shape[2] - k + 1
        patches = np.stack(
            [q[:, i : i + h, j : j + wide] for i in range(k) for j in range(k)], axis=3
        )
        if op.name == "CONV_2D":
            acc = np.einsum("nhwpc,opc->nhwo", patches, w.reshape(w.shape[0], k * k, -1))
        else:
            acc = np.einsum("nhwpc,pc->nhwc", patches, w.reshape(k * k, -1))
    acc = acc + b
    out, lo = op.outputs[0], -128
    s_in = float(op.input(0).quant.scale[0])
    s_out = float(out.quant.scale[0])
    scales = np.broadcast_to(op.input(1).quant.scale, acc.shape[-1:])
    columns = [
        requantized(acc[..., c], s_in * float(scales[c]) / s_out, single=single)
        for c in range(acc.shape[-1])
    ]
    zero = int(out.quant.zero_point[0])
    if op.options.fusedActivationFunction == ACT.RELU:
        lo = zero
    return np.clip(np.stack(columns, axis=-1) + zero, lo, 127)


def layer(kind, act):
    net = Net(5)
    if kind == "dense":
        return net.bytes(net.dense(net.input(1, 32, name="x"), 24, act=act, out="y"))
    x = net.input(1, 9, 9, 8, name="x")
    if kind == "conv":
        return net.bytes(net.conv(x, 16, act=act, out="y"))
    return net.bytes(net.depthwise(x, act=act, out="y"))


@pytest.mark.parametrize("act", [ACT.NONE, ACT.RELU])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_int8_layers_are_the_integer_arithmetic_they_stand_for(kind, granularity, act):
    config = config_of(granularity=granularity, dense_granularity=granularity)
    emitted = plan_of(layer(kind, act), config=config).emit().model
    (op,) = emitted.main.ops
    rng = np.random.default_rng(0)
    runners = {
        k: Runner(emitted.to_bytes(), kernels=k) for k in ("reference", "builtin", "xnnpack")
    }
    exact = {True: 0, False: 0}
    for _ in range(4):
        x = rng.integers(-128, 128, op.input(0).shape).astype(np.int8)
        got = {k: r.run({"x": x})["y"].astype(int) for k, r in runners.items()}
        for single in exact:
            want = expected(op, x, single=single)
            exact[single] = max(exact[single], int(np.abs(got["reference"] - want).max()))
            for k in got:
                assert np.abs(got[k] - want).max() <= 1, (k, single)
        assert np.abs(got["xnnpack"] - got["reference"]).max() <= 1
        assert len(np.unique(got["reference"])) >= 8
    # The reference kernels do one of the two roundings, bit for bit.
    assert 0 in exact.values()


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_int16_layers_are_within_a_step_of_real_arithmetic(kind):
    emitted = plan_of(layer(kind, ACT.NONE), config=config_of("int16x8")).emit().model
    (op,) = emitted.main.ops
    assert op.input(2).dtype == "int64"
    x = np.random.default_rng(0).integers(-32767, 32768, op.input(0).shape).astype(np.int16)
    w = op.input(1)
    real_w = w.values() * np.moveaxis(
        w.quant.scale.reshape(-1, *[1] * (w.values().ndim - 1)), 0, w.quant.axis
    )
    real_x = x * float(op.input(0).quant.scale[0])
    if kind == "dense":
        y = real_x @ real_w.T.astype(float)
    else:
        patches = np.stack(
            [real_x[:, i : i + 7, j : j + 7] for i in range(3) for j in range(3)], axis=3
        )
        if kind == "conv":
            y = np.einsum("nhwpc,opc->nhwo", patches, real_w.reshape(16, 9, 8))
        else:
            y = np.einsum("nhwpc,pc->nhwc", patches, real_w.reshape(9, 8))
    y = y + op.input(2).values() * op.input(2).quant.scale.astype(float)
    q = np.clip(np.rint(y / float(op.outputs[0].quant.scale[0])), -32768, 32767)
    for kernels in ("reference", "builtin", "xnnpack"):
        got = Runner(emitted.to_bytes(), kernels=kernels).run({"x": x})["y"]
        assert np.abs(got - q).max() <= 1, kernels
