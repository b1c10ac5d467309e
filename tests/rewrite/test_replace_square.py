def test_square_and_power(net):
    x = net.input(2, 3)
    y = net.op("POW", net.op("SQUARE", x), 2.0)
    assert net.rewritten(y, "replace_square") == ["MUL", "MUL"]


def test_the_squared_difference_of_a_variance_broadcasts(net):
    square = net.op("SQUARED_DIFFERENCE", net.input(2, 3), net.input(2, 1))
    assert net.rewritten(square, "replace_square") == ["SQUARED_DIFFERENCE"]
    axes = net.const([1], "int32")
    y = net.op("MEAN", square, axes, shape=(2, 1), keepDims=True)
    assert net.rewritten(y, "replace_square") == ["SUB", "MUL", "MEAN"]


def test_other_powers_and_integers_stay(net):
    x = net.input(2, 3)
    i = net.input(2, 3, dtype="int32")
    outputs = [net.op("POW", net.op("ABS", x), 3.0), net.op("SQUARED_DIFFERENCE", i, i)]
    names = net.rewritten(outputs, "replace_square")
    assert names == ["ABS", "POW", "SQUARED_DIFFERENCE"]
