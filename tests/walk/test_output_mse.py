"""Patches and Gram matrices against the kernels' sums, scales against brute force."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from small_models import ACT, Net, config_of, draw, plan_of

from tfq.graph.model import options_type
from tfq.walk import Walk
from tfq.walk.gram import gram_matrices, obstacle_to_gram
from tfq.walk.output_mse import output_mse_scales
from tfq.walk.patches import choose_positions, from_rows, patches, weight_rows


def convolution(net, x, *, depthwise=False, groups=1, same=False, stride=1, dilation=1, batch=1):
    """Of 3 x 2 taps: 6 output channels."""
    reach = (2 * dilation + 1, dilation + 1)
    h, w = (
        -(-n // stride) if same else (n - r) // stride + 1
        for n, r in zip(x.shape[1:3], reach, strict=True)
    )
    kind = "DepthwiseConv2D" if depthwise else "Conv2D"
    shape = (1, 3, 2, 6) if depthwise else (6, 3, 2, x.shape[3] // groups)
    fields = {"depthMultiplier": 6 // x.shape[3]} if depthwise else {}
    return net.op(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        x,
        net.const(net.rng.normal(0, 0.4, shape)),
        net.const(net.rng.normal(0, 0.1, 6)),
        shape=(x.shape[0], h, w, 6),
        out="y",
        options=options_type(f"{kind}Options")(),
        padding=schema.Padding.SAME if same else schema.Padding.VALID,
        strideH=stride,
        strideW=stride,
        dilationHFactor=dilation,
        dilationWFactor=dilation,
        **fields,
    )


CASES = {
    "valid": {},
    "same": {"same": True},
    "strided": {"same": True, "stride": 2},
    "dilated": {"same": True, "dilation": 2},
    "grouped": {"groups": 2, "stride": 2},
    "depthwise": {"depthwise": True, "same": True},
    "multiplied": {"depthwise": True, "channels": 2},
    "batch": {"batch": 2},
    "dense": None,
}


def walked(case, count=3):
    net = Net(3)
    if case is None:
        source = net.bytes(net.dense(net.input(2, 7, name="x"), 6, act=ACT.RELU, out="y"))
    else:
        x = net.input(case.get("batch", 1), 7, 6, case.get("channels", 6), name="x")
        more = {k: v for k, v in case.items() if k not in ("batch", "channels")}
        source = net.bytes(convolution(net, x, **more))
    samples = draw(source, count, seed=3)
    planned = plan_of(source, samples, config_of())
    return Walk(planned.emit(), samples, float_model=planned.prepared.model)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_patches_times_rows_are_the_accumulators(case):
    with walked(case) as walk:
        layer = next(walk)
        assert obstacle_to_gram(layer) == layer.without_accumulators() == ""
        zero = int(layer.x.quant.zero_point[0])
        rows = weight_rows(layer.op, layer.weights.values()).astype(np.float32)
        np.testing.assert_array_equal(from_rows(layer.op, rows), layer.weights.values())
        at = choose_positions(layer.op, len(layer.inputs), 30)
        grams, means, count = 0.0, 0.0, 0
        for n, z in enumerate(layer.accumulators()):
            found = patches(layer.op, layer.inputs[n], at[n], zero)
            sums = np.matmul(found, rows.transpose(0, 2, 1)).transpose(1, 0, 2)
            np.testing.assert_array_equal(sums.reshape(len(at[n]), -1), z[at[n]])
            wide = found.astype(np.float64)
            grams = grams + np.einsum("gpi,gpj->gij", wide, wide)
            means = means + wide.sum(axis=1)
            count += len(at[n])
        gram = gram_matrices(layer, positions=30)
        np.testing.assert_allclose(gram, grams / count, rtol=1e-5, atol=0.1)
        mean = means / count
        np.testing.assert_allclose(
            gram_matrices(layer, positions=30, centred=True),
            gram - mean[:, :, None] * mean[:, None, :],
            atol=0.1,
        )


def test_a_transposed_convolution_has_no_patches():
    with walked(None) as walk:
        layer = next(walk)
        layer.op.name = "TRANSPOSE_CONV"
        assert "TRANSPOSE_CONV" in obstacle_to_gram(layer)


@pytest.mark.parametrize("shared", [False, True])
def test_scales_against_brute_force(shared):
    rng = np.random.default_rng(0)
    rows = rng.standard_t(3, (2, 3, 8)).astype(np.float32)
    rows[1, 2] = 0
    root = rng.normal(size=(2, 8, 5))
    gram = root @ root.transpose(0, 2, 1)
    fractions = [1.0, 0.8, 0.6, 0.4]
    scales = output_mse_scales(rows, gram, 7, shared=shared, fractions=fractions)
    assert scales.dtype == np.float32

    def error(group, channel, scale):
        w = rows[group, channel].astype(float)
        e = np.clip(np.rint(w / scale), -7, 7) * scale - w
        return e @ gram[group] @ e

    if shared:
        top = np.abs(rows).max() / 7
        sums = [sum(error(g, c, f * top) for g in range(2) for c in range(3)) for f in fractions]
        np.testing.assert_allclose(scales, [fractions[int(np.argmin(sums))] * top], rtol=1e-6)
        return
    for i, (g, c) in enumerate(np.ndindex(2, 3)):
        top = np.abs(rows[g, c]).max() / 7
        if top == 0:
            assert scales[i] == 0
            continue
        errors = [error(g, c, f * top) for f in fractions]
        np.testing.assert_allclose(scales[i], fractions[int(np.argmin(errors))] * top, rtol=1e-6)


def test_what_inputs_never_show_costs_nothing():
    """A large weight on an input that is always 0 does not widen the grid of the others."""
    rows = np.array([[[8.0, 0.3, -0.9, 1.0]]])
    gram = np.diag([0.0, 1.0, 1.0, 1.0])[None]
    scale = output_mse_scales(rows, gram, 7, fractions=[1.0, 0.5, 0.125])
    np.testing.assert_allclose(scale, [1 / 7], rtol=1e-6)
