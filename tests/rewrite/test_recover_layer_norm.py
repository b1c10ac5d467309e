import pytest

from tfq.rewrite.recover_layer_norm import RULE

CANONICAL = ["MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL"]
ALL = ("recover_layer_norm", "replace_square", "replace_neg", "merge_duplicates")


def moments(net, x, square="SQUARED_DIFFERENCE"):
    axes = net.const([-1], "int32")
    shape = (*x.shape[:-1], 1)
    m = net.op("MEAN", x, axes, shape=shape, keepDims=True)
    if square == "SQUARED_DIFFERENCE":
        d2 = net.op(square, x, m)
    else:
        d2 = net.op("SQUARE", net.op("SUB", x, m))
    v = net.op("MEAN", d2, axes, shape=shape, keepDims=True)
    return m, net.op("RSQRT", net.op("ADD", v, 1e-3))


def keras(net, x, gamma, beta, square="SQUARED_DIFFERENCE"):
    m, s = moments(net, x, square)
    if gamma is not None:
        s = net.op("MUL", s, gamma)
    shift = net.op("MUL", net.op("NEG", m), s)
    if beta is not None:
        shift = net.op("ADD", shift, beta)
    return net.op("ADD", net.op("MUL", x, s), shift)


@pytest.mark.parametrize("square", ["SQUARED_DIFFERENCE", "SQUARE"])
def test_keras_form(net, square):
    y = keras(net, net.input(2, 5, 8), net.weights(1, 1, 8), net.weights(1, 1, 8), square)
    assert net.rewritten(y, *ALL) == [*CANONICAL, "MUL", "ADD"]
    sub, square_op, product = (net.model.main.ops[i] for i in (1, 2, 6))
    centred = sub.outputs[0]
    assert square_op.inputs == [centred, centred]
    assert product.input(0) is centred


def test_without_gamma_and_beta(net):
    y = keras(net, net.input(2, 5, 8), None, None)
    assert net.rewritten(y, *ALL) == CANONICAL


def test_tf_nn_form(net):
    x = net.input(2, 5, 8)
    m, r = moments(net, x)
    s = net.op("MUL", r, net.weights(8))
    y = net.op("ADD", net.op("MUL", x, s),
               net.op("SUB", net.weights(8), net.op("MUL", m, s)),
               fusedActivationFunction=1)  # fmt: skip
    assert net.rewritten(y, *ALL) == [*CANONICAL, "MUL", "ADD"]
    assert net.model.main.ops[-1].options.fusedActivationFunction == 1


def test_rms_scale_goes_last(net):
    x = net.input(2, 5, 8)
    v = net.op("MEAN", net.op("MUL", x, x), net.const([-1], "int32"), shape=(2, 5, 1),
               keepDims=True)  # fmt: skip
    r = net.op("RSQRT", net.op("ADD", v, 1e-3))
    y = net.op("MUL", x, net.op("MUL", r, net.weights(8)))
    assert net.rewritten(y, *ALL) == ["MUL", "MEAN", "ADD", "RSQRT", "MUL", "MUL"]
    assert net.model.main.ops[-2].input(0) is x or net.model.main.ops[-2].input(0).name == "in0"


def test_reasons(net):
    x = net.input(2, 5, 8)
    m, r = moments(net, x)
    net.op("ADD", net.op("MUL", x, r), net.op("MUL", m, r))
    assert net.reasons(RULE)[-1] == "x and its mean are not scaled alike with opposite signs"
