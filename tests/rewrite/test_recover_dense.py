import pytest

from tfq.rewrite.recover_dense import RULE


@pytest.mark.parametrize("adj", [False, True])
@pytest.mark.parametrize("lead", [(), (1,)])
def test_constant_matrix(net, adj, lead):
    x = net.input(2, 3, 5)
    w = net.weights(*lead, *((4, 5) if adj else (5, 4)))
    y = net.op("BATCH_MATMUL", x, w, shape=(2, 3, 4), adjY=adj)
    assert net.rewritten(y, "recover_dense") == ["FULLY_CONNECTED"]


def test_two_dimensions_then_bias(net):
    x = net.input(2, 5)
    y = net.op("ADD", net.op("BATCH_MATMUL", x, net.weights(5, 4), shape=(2, 4)), net.weights(4))
    assert net.rewritten(y, "recover_dense", "fold_affine") == ["FULLY_CONNECTED"]


def test_reasons(net):
    x = net.input(2, 3, 5)
    net.op("BATCH_MATMUL", x, net.weights(2, 5, 4), shape=(2, 3, 4))
    net.op("BATCH_MATMUL", x, net.input(2, 5, 4), shape=(2, 3, 4))
    assert net.reasons(RULE) == [
        "the constant is a different matrix for every entry of the batch",
        "not a computed tensor by a float constant",
    ]
