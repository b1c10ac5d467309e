def test_for_int16_only(net):
    y = net.op("SQUARED_DIFFERENCE", net.input(1, 4), net.input(1, 4))
    assert net.rewritten(y, "expand_squared_difference") == ["SQUARED_DIFFERENCE"]
    names = net.rewritten(y, "expand_squared_difference", activations="int16")
    assert names == ["SUB", "MUL"]
