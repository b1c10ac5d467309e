def test_for_int16_only(net):
    y = net.op("PRELU", net.input(1, 3, 3, 4), net.weights(1, 1, 4))
    assert net.rewritten(y, "expand_prelu") == ["PRELU"]
    assert net.rewritten(y, "expand_prelu", "recover_prelu", activations="int16") == [
        "RELU",
        "MINIMUM",
        "MUL",
        "ADD",
    ]
