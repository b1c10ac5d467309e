def test_a_chain(net):
    y = net.op("ADD_N", *(net.input(2, 3) for _ in range(4)))
    assert net.rewritten(y, "replace_add_n") == ["ADD", "ADD", "ADD"]
