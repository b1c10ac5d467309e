def test_for_int16_only(net):
    y = net.op("L2_NORMALIZATION", net.input(2, 3, 8))
    assert net.rewritten(y, "expand_l2_norm") == ["L2_NORMALIZATION"]
    names = net.rewritten(y, "expand_l2_norm", "recover_l2_norm", activations="int16")
    assert names == ["MUL", "SUM", "MAXIMUM", "RSQRT", "MUL"]
