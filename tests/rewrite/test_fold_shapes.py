def test_a_shape_computed_at_run_time_folds_away(net):
    x = net.input(2, 3, 4)
    shape = net.op("SHAPE", x, shape=(3,), dtype="int32", outType=2)
    ones = net.op("FILL", shape, 1.0, shape=(2, 3, 4), dtype="float32")
    y = net.op("ADD", x, ones)
    assert net.rewritten(y, "fold_shapes", "fold_constants") == ["ADD"]


def test_zeros_like_and_rank(net):
    x = net.input(2, 3)
    zeros = net.op("ZEROS_LIKE", x)
    rank = net.op("RANK", x, shape=(), dtype="int32")
    y = net.op("ADD", net.op("MUL", x, net.op("CAST", rank, dtype="float32")), zeros)
    assert net.rewritten(y, "fold_shapes", "fold_constants") == ["MUL", "ADD"]


def test_dynamic_shapes_stay(net):
    from tfq.rewrite.fold_shapes import RULE

    x = net.input(1, 3)
    x.signature = (-1, 3)
    net.op("SHAPE", x, shape=(2,), dtype="int32", outType=2)
    assert net.reasons(RULE) == ["the shape is known only at run time"]
