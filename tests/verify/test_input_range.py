"""Samples on another scale than the model's: what is said, and where nothing is."""

import numpy as np
import pytest
from small_models import ACT, Net

from tfq.convert import convert_model
from tfq.evaluate.run import evaluate_model
from tfq.verify.input_range import input_warnings, is_what_division_leaves, usual, way_out

UNIT = np.random.default_rng(0).random((12, 12, 12, 3), np.float32)
BYTES, SIGNED = UNIT * 255, UNIT * 2 - 1


def warned(model, x, grid=None):
    """The only warning about rows of `x`, or ""."""
    grids = {"x": grid} if grid else {}
    found = input_warnings(model, [{"x": v[None]} for v in x], grids, {"x": "photo"})
    assert len(found) <= 1
    return found[0] if found else ""


def behind(*arithmetic, shape=(12, 12, 3)):
    """A model whose input goes through constants: (op, constant), the constant first if `None`."""
    net = Net()
    y = net.input(1, *shape, name="x")
    for name, *operands in arithmetic:
        values = [y if v is None else net.const(v) for v in operands]
        y = net.op(name, *values, shape=(1, *shape))
    if len(shape) == 3:
        return net.bytes(net.mean(net.conv(y, act=ACT.RELU)))
    return net.bytes(net.op("TANH", y))


RESCALING = behind(("MUL", None, 1 / 127.5), ("ADD", None, -1.0))
DIVISION = behind(("DIV", None, 255.0))
MEAN, STD = [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]
NORMALIZATION = behind(("SUB", None, MEAN), ("MUL", None, 1 / np.array(STD)))


@pytest.mark.parametrize(
    ("model", "x", "texts"),
    [
        (RESCALING, UNIT, ["INPUT photo: they hold", "as 0 to 255 (arrays times 255;"]),
        (RESCALING, SIGNED, ["subtracts 127.5", "(x + 1) * 127.5"]),
        (DIVISION, UNIT, ["divides them by 255", "arrays times 255"]),
        (behind(("MUL", None, 1 / 256)), UNIT, ["divides them by 256"]),
        (NORMALIZATION, UNIT, ["divides by 57.4", "nearly 0", "arrays times 255"]),
        (behind(("SUB", None, MEAN)), UNIT, ["subtracts 116.3, which is for 0 to 255"]),
        (
            behind(("SUB", None, 900.0)),
            UNIT,
            ["subtracts 900; beside that", "Scale them as in training"],
        ),
        (
            behind(("MUL", None, 2.0), ("SUB", None, 1.0)),
            BYTES,
            ["beyond", "arrays divided by 255"],
        ),
        (behind(("SUB", None, 0.45), ("DIV", None, 0.22)), BYTES, ["arrays divided by 255"]),
    ],
)
def test_constants_behind_the_input_say_what_it_takes(model, x, texts):
    found = warned(model, x)
    assert all(text in found for text in ("THE SAMPLES DO NOT FIT", *texts)), found


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (RESCALING, BYTES),
        (RESCALING, BYTES * 0.1),  # Dark.
        (DIVISION, BYTES),
        (NORMALIZATION, BYTES),
        (behind(("SUB", None, MEAN)), BYTES),
        (behind(("MUL", None, 2.0), ("SUB", None, 1.0)), UNIT),
        (behind(("ADD", None, 1.0)), UNIT / 50),  # What a logarithm of 1 + x is of.
        (behind(("SUB", 1.0, None)), UNIT * 0),  # A mask.
        (behind(("ADD", None, 1e-6)), BYTES),
        (behind(("MUL", None, 1 / 255), shape=(4,)), np.full((9, 4), 200.0)),
        (behind(("SUB", None, [5.0, 90.0]), ("MUL", None, [0.5, 0.1]), shape=(2,)), [[7, 80.0]]),
    ],
)
def test_constants_that_fit_the_samples(model, x):
    assert warned(model, np.asarray(x, np.float32)) == ""


def moved(name):
    """Rescaling or Normalization as real models have it, behind ops that move values."""
    net = Net()
    x = net.input(1, 12, 12, 3, name="x")
    if name == "crop":  # CenterCrop, Cropping2D
        corners = [net.const(v, "int32") for v in ([0, 1, 1, 0], [1, 11, 11, 3], [1, 1, 1, 1])]
        y = net.op("MUL", net.op("STRIDED_SLICE", x, *corners, shape=(1, 10, 10, 3)), 1 / 255)
    elif name == "reversed channels":  # "caffe"
        y = net.op("REVERSE_V2", x, net.const([3], "int32"), shape=x.shape)
        y = net.op("ADD", y, net.const([-103.9, -116.8, -123.7]))
    elif name == "channels first":
        y = net.op("TRANSPOSE", x, net.const([0, 3, 1, 2], "int32"), shape=(1, 3, 12, 12))
        y = net.op("SUB", y, net.const(np.reshape(MEAN, (1, 3, 1, 1))))
    elif name == "mirrored":
        edges = net.const([[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
        y = net.op("MUL", net.op("MIRROR_PAD", x, edges, shape=(1, 14, 14, 3)), 1 / 255)
    elif name == "integers":
        y = net.op("MUL", net.op("CAST", x), 1 / 255)
    else:
        raised = net.op("ADD", net.op("MUL", x, 1 / 127.5), -1.0)
        if name == "two that agree":
            other = net.op("TANH", net.op("DIV", x, 255.0))
        elif name == "one that has none":
            other = net.op("TANH", x)
        elif name == "two that do not":
            other = net.op("TANH", net.op("SUB", net.op("MUL", x, 2.0), 1.0))
        else:
            assert name == "one that goes on"
            other = net.op("TANH", net.op("MUL", raised, 0.5))
        return net.bytes(net.mean(net.conv(raised)), net.mean(other))
    shape = (1, y.size)
    return net.bytes(net.op("TANH", net.op("RESHAPE", y, net.const(shape, "int32"), shape=shape)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("crop", "divides them by 255"),
        ("reversed channels", "subtracts 116.8, which is for 0 to 255"),
        ("channels first", "subtracts 116.3, which is for 0 to 255"),
        ("mirrored", "divides them by 255"),
        ("integers", "divides them by 255"),
        ("two that agree", "subtracts 1"),
        ("one that has none", "subtracts 127.5"),
        ("one that goes on", "subtracts 127.5"),
        ("two that do not", ""),
    ],
)
def test_constants_are_found_behind_what_moves_values(name, text):
    assert text in warned(moved(name), UNIT)
    assert bool(text) == bool(warned(moved(name), UNIT))
    assert warned(moved(name), BYTES) == ""


def test_constants_of_different_axes_end_where_they_meet():
    net = Net()
    y = net.op("SUB", net.input(1, 4, 3, name="x"), net.const(MEAN))
    y = net.op("MUL", y, net.const(np.full((1, 4, 1), 0.5)))
    assert "subtracts 116.3, which" in warned(net.bytes(net.op("TANH", y)), UNIT[:, 0, :4])


def test_what_is_cut_off_is_another_number():
    net = Net()
    y = net.op("SUB", net.op("FLOOR_MOD", net.input(1, 9, name="x"), 1.0), 0.5)
    assert warned(net.bytes(net.op("TANH", y)), BYTES.reshape(-1, 9)) == ""


def test_sound_of_16_bits():
    model = behind(("DIV", None, 32768.0), shape=(400,))
    wave = np.random.default_rng(0).uniform(-1, 1, (8, 400)).astype(np.float32)
    assert "is for -32768 to 32767" in warned(model, wave)
    assert warned(model, wave * 20000) == ""
    assert warned(model, wave * 300) == ""  # Quiet.


def network(reach, *, act=ACT.RELU, bias=1.0):
    """Convolutions as batch normalization leaves them for photos of 0 to `reach`."""
    net = Net(5)
    x = net.input(1, 12, 12, 3, name="x")
    weights = net.rng.normal(0, 0.7, (8, 3, 3, 3)) / reach
    biases = [net.rng.choice([-1, 1], 8) * net.rng.uniform(0.4, 1.5, 8) * bias for _ in range(3)]
    y = net.conv(x, 8, weights=weights, bias=biases[0], act=act)
    for b in biases[1:]:
        y = net.conv(y, 8, weights=net.rng.normal(0, 0.17, (8, 3, 3, 8)), bias=b, act=act)
    return net.bytes(net.mean(y, out="y"))


def test_a_network_to_which_all_samples_look_alike():
    model = network(255)
    for x, way in ((UNIT, "arrays times 255"), (SIGNED, "(x + 1) * 127.5")):
        found = warned(model, x)
        assert "all look alike to it, which as 0 to 255 they would not" in found
        assert way in found
    assert "as 0 to 1 (arrays times 255" in warned(network(1), UNIT / 255)
    for x in (BYTES, UNIT[:1], 0.5 + UNIT / 500):
        assert warned(model, x) == ""
    assert warned(network(255, bias=0.0), UNIT) == ""  # Not trained.
    assert warned(network(1), UNIT) == warned(network(1), SIGNED) == ""


def test_a_network_whose_relu6_cuts_all_off():
    found = warned(network(1, act=ACT.RELU6), BYTES)
    assert "as 0 to 1 (arrays divided by 255; images in files with --scale=0.00392157)" in found
    assert "or as -1 to 1 (arrays as x / 127.5 - 1; images in files with --mean=127.5" in found
    for x in (UNIT, SIGNED, UNIT * 5000):
        assert warned(network(1, act=ACT.RELU6), x) == ""
    assert warned(network(255, act=ACT.RELU6), BYTES) == ""
    # Without a ReLU6 it may be what it was trained with.
    assert warned(network(1), BYTES) == ""


def test_a_grid_that_was_not_calibrated():
    model = behind(("MUL", None, 0.5))
    assert "its grid spans 0 to 255" in warned(model, UNIT, (0.0, 255.0))
    assert "arrays as x / 127.5 - 1" in warned(model, BYTES, (-1.0, 1.0))
    assert warned(model, UNIT, (0.0, 1.0)) == warned(model, UNIT, (0.0, 6.0)) == ""
    assert warned(model, UNIT * 3, (0.0, 1.0)) == ""


def test_conversion_and_evaluation_warn():
    good = convert_model(RESCALING, BYTES)
    assert good.summary["warnings"] == []
    (text,) = convert_model(RESCALING, UNIT).summary["warnings"]
    assert text.startswith("THE SAMPLES DO NOT FIT THE INPUT x0: they hold 0.00")
    given = convert_model(network(1), UNIT, input_type="uint8", input_range=(0, 255))
    assert any("its grid spans 0 to 255" in w for w in given.summary["warnings"])
    assert convert_model(RESCALING, "synthetic", scheme="dynamic").summary["warnings"] == []
    for x, count in ((BYTES, 0), (UNIT, 1)):
        report = evaluate_model(RESCALING, {"x0": x}, layers=False, probes=0).report
        assert sum("DO NOT FIT THE INPUT x0" in w for w in report["warnings"]) == count


def test_usual_ranges_and_the_ways_between_them():
    assert usual(0, 1) == usual(0.0, 0.98) == (0, 1)
    assert usual(-1, 0.99) == (-1, 1)
    assert usual(0, 254) == (0, 255)
    assert usual(0, 1 / 255) == (0, 1 / 255)
    assert usual(-2.1, 2.6) is usual(0, 16) is usual(0, 65535) is usual(-3, -1) is None
    assert way_out((0, 1), (0, 1)) is way_out((0, 16), (0, 255)) is way_out((0, 1)) is None
    assert is_what_division_leaves((0, 255), (0, 1))
    assert is_what_division_leaves((0, 255), (-1, 1))
    assert not is_what_division_leaves((0, 255), (3, 3))
    assert not is_what_division_leaves((0, 100), (0, 1))
