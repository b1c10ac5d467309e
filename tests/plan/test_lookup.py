"""Which chains of elementwise ops become one table."""

from small_models import Net

from tfq.plan.lookup import find_chains


def chains(net, *outputs, activations="int8", barriers=()):
    found = find_chains(net.graph(*outputs), activations, set(barriers))
    return [(c.root.name, [op.name for op in c.ops]) for c in found]


def test_an_op_without_a_kernel_is_a_table():
    net = Net()
    y = net.op("FLOOR", net.input(1, 4))
    assert chains(net, y) == [("in0", ["FLOOR"])]
    assert chains(net, y, activations="int16") == [("in0", ["FLOOR"])]


def test_good_kernels_stay_as_they_are():
    net = Net()
    y = net.op("RELU", net.op("ADD", net.input(1, 4), 1.0))
    assert chains(net, y) == []


def test_softplus_is_one_table():
    net = Net()
    x = net.input(1, 4)
    y = net.op("LOG", net.op("ADD", net.op("EXP", x), 1.0))
    assert chains(net, y) == [("in0", ["EXP", "ADD", "LOG"])]
    # int16 has kernels for all of them, of which that of LOG is too coarse.
    assert chains(net, y, activations="int16") == [("in0", ["EXP", "ADD", "LOG"])]


def test_a_function_that_uses_its_argument_twice():
    net = Net()
    x = net.input(1, 4)
    y = net.op("MUL", x, net.op("TANH", net.op("LOG", net.op("ADD", net.op("EXP", x), 1.0))))
    assert chains(net, y) == [("in0", ["EXP", "ADD", "LOG", "TANH", "MUL"])]


def test_comparisons_and_selections_are_inside():
    net = Net()
    x = net.input(1, 4)
    positive = net.op("GREATER", x, 0.0, dtype="bool")
    both = net.op("LOGICAL_AND", positive, net.op("LESS", x, 2.0, dtype="bool"))
    y = net.op("SELECT_V2", both, x, net.op("FLOOR", x), dtype="float32")
    ((root, ops),) = chains(net, y)
    assert root == "in0"
    assert sorted(ops) == ["FLOOR", "GREATER", "LESS", "LOGICAL_AND", "SELECT_V2"]
    assert ops[-1] == "SELECT_V2"


def test_booleans_from_outside_are_no_part_of_a_chain():
    net = Net()
    x, flag = net.input(1, 4), net.input(1, 4, dtype="bool")
    y = net.op("SELECT_V2", flag, net.op("FLOOR", x), net.op("CEIL", x), dtype="float32")
    assert chains(net, y) == [("in0", ["FLOOR"]), ("in0", ["CEIL"])]


def test_two_arguments_are_not_one():
    net = Net()
    y = net.op("ADD", net.op("FLOOR", net.input(1, 4)), net.op("FLOOR", net.input(1, 4)))
    assert chains(net, y) == [("in0", ["FLOOR"]), ("in1", ["FLOOR"])]


def test_broadcasting_ends_a_chain():
    net = Net()
    x = net.input(1, 4)
    y = net.op("ADD", net.op("FLOOR", x), net.const(np_range(4)))
    assert chains(net, y) == [("in0", ["FLOOR"])]
    wide = net.op("FLOOR", x)
    z = net.op("MUL", wide, net.input(3, 4))
    assert chains(net, z)[-1] == ("in0", ["FLOOR"])


def np_range(n):
    return [float(i) for i in range(n)]


def test_an_intermediate_that_others_need_has_its_own_table():
    net = Net()
    x = net.input(1, 4)
    middle = net.op("FLOOR", x)
    y = net.op("SIN", middle)
    assert chains(net, y) == [("in0", ["FLOOR", "SIN"])]
    assert chains(net, y, middle) == [("in0", ["FLOOR"]), ("in0", ["FLOOR", "SIN"])]
    z = net.dense(middle, 2)
    assert ("in0", ["FLOOR"]) in chains(net, y, z)


def test_a_barrier_ends_a_chain_and_starts_the_next():
    net = Net()
    x = net.input(1, 4)
    middle = net.op("FLOOR", x)
    y = net.op("SIN", middle)
    assert chains(net, y, barriers=[middle]) == [
        ("in0", ["FLOOR"]),
        (middle.name, ["SIN"]),
    ]


def test_long_or_steep_chains_of_good_kernels_become_tables():
    net = Net()
    x = net.input(1, 4)
    long = net.op("MUL", net.op("ADD", net.op("RELU", x), 1.0), 2.0)
    assert chains(net, long) == [("in0", ["RELU", "ADD", "MUL"])]
    assert chains(net, long, activations="int16") == []
    net = Net()
    steep = net.op("EXP", net.op("MUL", net.input(1, 4), 3.0))
    assert chains(net, steep) == [("in0", ["MUL", "EXP"])]


def test_a_cast_of_values_is_never_left_to_its_kernel():
    net = Net()
    y = net.op("CAST", net.input(1, 4), dtype="int32")
    assert chains(net, y) == [("in0", ["CAST"])]


def test_a_deep_chain_does_not_overflow_the_stack():
    net = Net()
    y = net.input(1, 4)
    for _ in range(3000):
        y = net.op("SIN", y)
    ((root, ops),) = chains(net, y)
    assert root == "in0"
    assert len(ops) == 3000


def test_a_cast_to_complex_is_no_table():
    net = Net()
    x = net.input(1, 4)
    y = net.op("CAST", net.op("COS", x), dtype="complex64")
    assert all(
        c.end.outputs[0].dtype != "complex64" for c in find_chains(net.graph(y), "int8", set())
    )
