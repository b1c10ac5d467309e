def test_neg(net):
    y = net.op("NEG", net.op("TANH", net.input(2, 3)))
    assert net.rewritten(y, "replace_neg") == ["TANH", "MUL"]


def test_it_folds_into_weights(net):
    y = net.op("NEG", net.conv(net.input(1, 5, 5, 3)))
    assert net.rewritten(y, "replace_neg", "fold_affine") == ["CONV_2D"]


def test_integers_stay(net):
    y = net.op("NEG", net.input(2, 3, dtype="int32"))
    assert net.rewritten(y, "replace_neg") == ["NEG"]
