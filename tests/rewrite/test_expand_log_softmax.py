def test_for_int16_only(net):
    y = net.op("LOG_SOFTMAX", net.input(2, 3, 8))
    assert net.rewritten(y, "expand_log_softmax") == ["LOG_SOFTMAX"]
    names = net.rewritten(y, "expand_log_softmax", activations="int16")
    assert names == ["REDUCE_MAX", "SUB", "EXP", "SUM", "LOG", "SUB"]
