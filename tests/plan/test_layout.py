"""Which kernel each op gets, and which tensors share a grid, before any sample is seen."""

import numpy as np
import pytest
from small_models import ACT, Net, config_of, distance, draw, plan_of

from tfq.errors import TfqError, UsageError
from tfq.graph.model import Tensor
from tfq.graph.numerics import Grid
from tfq.plan.entries import INSIDE, INTEGER, KEEP_FLOAT, LOOKUP, PLAIN
from tfq.plan.layout import Groups, make_layout
from tfq.plan.patterns import exclude_rules
from tfq.plan.scheme import LayerRule


def tensors(n):
    return [Tensor(f"t{i}", (1,), "float32") for i in range(n)]


def layout_of(net, *outputs, config=None, trained=None):
    graph = net.graph(*outputs)
    layout = make_layout(graph, config or config_of(), trained or {})
    return layout, {op.outputs[0].name: layout.choices[op] for op in graph.ops}


def shared(layout, *members):
    return len({layout.groups.find(t) for t in members}) == 1


# --- groups ---------------------------------------------------------------------------------------


def test_ties_are_transitive():
    a, b, c, d = tensors(4)
    groups = Groups()
    assert groups.tie(a, b)
    assert groups.tie(c, d)
    assert groups.find(a) is not groups.find(c)
    assert groups.tie(b, c)
    assert len({groups.find(t) for t in (a, b, c, d)}) == 1


def test_a_fixed_grid_spreads_and_two_different_ones_do_not_meet():
    a, b, c = tensors(3)
    groups = Groups()
    one, other = Grid("int8", (0.5,), (0,)), Grid("int8", (0.25,), (0,))
    groups.pin(a, one, "why")
    groups.pin(c, other, "else")
    assert groups.tie(b, a)
    assert groups.pinned[groups.find(b)] == (one, "why")
    assert not groups.tie(b, c)
    assert groups.pinned[groups.find(c)][0] == other


def test_equal_fixed_grids_meet():
    a, b = tensors(2)
    groups = Groups()
    grid = Grid("int8", (0.5,), (0,))
    groups.pin(a, grid, "one")
    groups.pin(b, Grid("int8", (0.5,), (0,)), "two")
    assert groups.tie(a, b)
    assert groups.pinned[groups.find(b)][0] == grid


# --- who shares with whom -------------------------------------------------------------------------


def test_ops_that_move_values_share_their_grid_and_need_no_statistics():
    net = Net()
    a = net.dense(net.input(1, 4, name="x"), 6, out="a")
    b = net.reshape(a, 2, 3, out="b")
    c = net.op("TRANSPOSE", b, net.const([1, 0], "int32"), shape=(3, 2), out="c")
    layout, _ = layout_of(net, c)
    assert shared(layout, a, b, c)
    assert layout.observed == {"x", "a"}


def test_concatenated_tensors_share_one_grid():
    net = Net()
    x = net.input(1, 4)
    a, b = net.dense(x, 3, out="a"), net.dense(x, 3, out="b")
    y = net.concat(a, b)
    layout, _ = layout_of(net, y)
    assert shared(layout, a, b, y)
    planned = plan_of(net.bytes(y))
    assert planned.grid("a") == planned.grid("b") == planned.grid(y.name)


def test_a_sigmoid_beside_a_wide_layer_is_requantized_not_cut_off():
    net = Net()
    x = net.input(1, 4)
    wide = net.dense(x, 3, weights=np.full((3, 4), 5.0), out="wide")
    narrow = net.op("LOGISTIC", net.dense(x, 3), out="narrow")
    y = net.concat(wide, narrow, out="y")
    planned = plan_of(net.bytes(y))
    assert planned.grid("narrow") == Grid("int8", (1 / 256,), (-128,))
    assert planned.grid("wide") == planned.grid("y")
    lo, hi = planned.grid("y").range()
    assert lo < -10
    assert hi > 10
    assert planned.plan.ops["y"].edges == {1: planned.grid("y")}


def test_sigmoids_alone_keep_their_fixed_grid():
    net = Net()
    x = net.input(1, 4)
    a, b = (net.op("LOGISTIC", net.dense(x, 3), out=n) for n in "ab")
    planned = plan_of(net.bytes(net.concat(a, b, out="y")))
    assert planned.grid("y") == planned.grid("a") == Grid("int8", (1 / 256,), (-128,))
    assert planned.plan.ops["y"].edges == {}


@pytest.mark.parametrize(
    ("op", "int8", "int16"),
    [
        ("LOGISTIC", (1 / 256, -128), (1 / 32768, 0)),
        ("TANH", (1 / 128, 0), (1 / 32768, 0)),
        ("SOFTMAX", (1 / 256, -128), (1 / 32768, 0)),
    ],
)
def test_fixed_outputs_are_pinned(op, int8, int16):
    for scheme, dtype, (scale, zero) in (("int8", "int8", int8), ("int16x8", "int16", int16)):
        net = Net()
        planned = plan_of(net.bytes(net.op(op, net.input(1, 4), out="y")), config=config_of(scheme))
        assert planned.grid("y") == Grid(dtype, (scale,), (zero,))


def test_a_grid_from_training_is_pinned_and_no_source():
    net = Net()
    a = net.dense(net.input(1, 4, name="x"), 4, out="a")
    y = net.reshape(a, 2, 2, out="y")
    grid = Grid("int8", (0.5,), (3,))
    layout, _ = layout_of(net, y, trained={"a": grid})
    assert layout.groups.pinned[layout.groups.find(y)][0] == grid
    assert {t.name for t in layout.sources} == {"x"}


def test_input_range_pins_every_float_input():
    net = Net()
    y = net.op("ADD", net.input(1, 4), net.input(1, 4))
    layout, _ = layout_of(net, y, config=config_of(input_range=(0.0, 1.0)))
    assert [layout.groups.pinned[layout.groups.find(t)][0] for t in net.inputs] == [
        Grid("int8", (float(np.float32(1 / 255)),), (-128,))
    ] * 2


# --- how each op is emitted -----------------------------------------------------------------------


def test_modes():
    net = Net()
    x = net.input(1, 4)
    middle = net.op("EXP", x, out="inside")
    looked = net.op("LOG", net.op("ADD", middle, 1.0), out="lookup")
    y = net.dense(looked, 2, out="integer")
    shape = net.op("SHAPE", x, shape=(2,), dtype="int32", out="plain")
    _, choices = layout_of(net, y, shape)
    assert {n: c.mode for n, c in choices.items() if n in ("inside", "lookup")} == {
        "inside": INSIDE,
        "lookup": LOOKUP,
    }
    assert choices["integer"].mode == INTEGER
    assert choices["plain"].mode == PLAIN
    assert "'in0'" in choices["lookup"].reason


def test_a_table_whose_middle_has_a_table_of_its_own():
    net = Net()
    x = net.input(1, 4)
    middle = net.op("EXP", net.op("ABS", x), out="middle")
    y = net.op("COS", net.op("RELU", middle), out="y")
    z = net.op("MUL", middle, net.dense(x, 4), out="z")
    _, choices = layout_of(net, y, z)
    assert choices["middle"].mode == choices["y"].mode == LOOKUP
    assert choices["y"].chain.root.name == "in0"


def hopeless():
    net = Net()
    x = net.input(1, 4)
    a = net.op("ATAN2", x, net.dense(x, 4), out="angle")
    b = net.op("FLOOR_DIV", a, net.dense(x, 4), out="whole")
    return net, net.dense(b, 2, out="y")


def test_all_ops_that_cannot_be_integer_are_named_at_once():
    net, y = hopeless()
    with pytest.raises(TfqError) as error:
        layout_of(net, y)
    text = str(error.value)
    assert text.startswith("2 op(s) cannot become integer:")
    assert "ATAN2 at 'angle'" in text
    assert "FLOOR_DIV at 'whole'" in text
    assert "--allow_float=ATAN2,FLOOR_DIV" in text


@pytest.mark.parametrize("allowed", [("ATAN2", "FLOOR_DIV"), ("^angle$", "whole"), (".",)])
def test_they_stay_float_where_that_is_allowed(allowed):
    net, y = hopeless()
    layout, choices = layout_of(net, y, config=config_of(allow_float=allowed))
    assert {n for n, c in choices.items() if c.mode == KEEP_FLOAT} == {"angle", "whole"}
    assert choices["y"].mode == INTEGER
    assert {t.name for t, d in layout.dtypes.items() if d == "float32"} == {"angle", "whole"}


def test_allowing_one_still_names_the_other():
    net, y = hopeless()
    with pytest.raises(TfqError, match=r"^1 op\(s\) .*\n  FLOOR_DIV at 'whole'"):
        layout_of(net, y, config=config_of(allow_float=("ATAN2",)))


def test_what_could_be_integer_is_not_made_float_by_allowing_it():
    net = Net()
    _, choices = layout_of(
        net, net.dense(net.input(1, 4), 2, out="y"), config=config_of(allow_float=("y",))
    )
    assert choices["y"].mode == INTEGER


def test_custom_and_flex_ops_say_what_they_are():
    net = Net()
    x = net.input(1, 4)
    y = net.op("CUSTOM", x, out="mine")
    net.ops[-1].custom_code = "MyOp"
    z = net.op("CUSTOM", x, out="flex")
    net.ops[-1].custom_code = "FlexErf"
    with pytest.raises(TfqError) as error:
        layout_of(net, y, z)
    assert "CUSTOM:MyOp at 'mine': a custom op" in str(error.value)
    assert "CUSTOM:FlexErf at 'flex': a TensorFlow op that needs the Flex" in str(error.value)


def test_excluded_layers_stay_float_with_the_reason():
    net = Net()
    a = net.dense(net.input(1, 4), 4, out="block/a")
    y = net.dense(a, 2, out="block/y")
    _, choices = layout_of(net, y, config=config_of(rules=exclude_rules(("/a$",))))
    assert choices["block/a"].mode == KEEP_FLOAT
    assert choices["block/a"].reason == "excluded by '/a$'"
    assert choices["block/y"].mode == INTEGER


def test_an_excluded_op_is_in_no_table():
    net = Net()
    x = net.input(1, 4)
    y = net.op("LOG", net.op("ADD", net.op("EXP", x, out="e"), 1.0, out="s"), out="y")
    _, choices = layout_of(net, y, config=config_of(rules=exclude_rules(("^e$",))))
    assert choices["e"].mode == KEEP_FLOAT
    assert choices["y"].mode in (LOOKUP, INTEGER)
    chain = choices["y"].chain
    assert chain is None or chain.root.name != "in0"


def test_a_rule_gives_layers_another_width_and_moves_keep_it():
    net = Net()
    a = net.dense(net.input(1, 4), 4, out="a")
    b = net.reshape(a, 2, 2, out="b")
    y = net.op("RELU", net.reshape(b, 1, 4), out="y")
    config = config_of(rules=(LayerRule(regex="^a$", activations="int16"),))
    layout, _ = layout_of(net, y, config=config)
    assert layout.dtypes[a] == layout.dtypes[b] == "int16"
    assert layout.dtypes[y] == "int8"


def test_an_op_without_a_kernel_of_the_width_uses_the_other():
    net = Net()
    y = net.op("HARD_SWISH", net.input(1, 4), out="y")
    layout, choices = layout_of(net, y, config=config_of("int16x8"))
    if choices["y"].mode == INTEGER:
        assert layout.dtypes[y] == "int8"
        assert "no int16 kernel" in choices["y"].reason
    else:
        assert choices["y"].mode == LOOKUP


def test_integers_that_are_cast_are_taken_as_they_are():
    net = Net()
    i = net.input(1, 4, name="i", dtype="int32")
    y = net.dense(net.op("CAST", i, dtype="float32", out="real"), 2, out="y")
    layout, choices = layout_of(net, y)
    assert (choices["real"].mode, choices["real"].activations) == (INTEGER, "int16")
    assert layout.groups.pinned[layout.groups.find(net.ops[0].outputs[0])][0] == Grid(
        "int16", (1.0,), (0,)
    )
    assert "real" in layout.observed


def test_fused_activations_do_not_change_the_group():
    net = Net()
    a = net.conv(net.input(1, 6, 6, 2), act=ACT.RELU, out="a")
    options = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    b = net.op("MAX_POOL_2D", a, shape=(1, 2, 2, 4), out="b", **options)
    layout, _ = layout_of(net, b)
    assert shared(layout, a, b)


def test_a_table_computes_in_16_bits_where_a_rule_says_so():
    net = Net(1)
    a = net.dense(net.input(1, 16, name="x"), 16, out="a")
    y = net.op("LOG", net.op("ADD", net.op("EXP", a), 1.0), out="table")
    rules = (LayerRule(regex="^(a|table)$", activations="int16"),)
    planned = plan_of(net.bytes(y), config=config_of(rules=rules))
    assert planned.plan.ops["table"].mode == "lookup"
    assert planned.grid("table").dtype == "int16"
    assert distance(net, y, draw(net.bytes(y), 20), rules=rules)[0] <= 1.0


def test_what_reads_one_of_several_16_bit_tensors_in_8_bits_has_a_grid_for_that_one():
    net = Net(3)
    x = net.input(1, 12, name="x")
    small = net.op("TANH", net.dense(x, 8), out="small")
    small = net.op("MUL", small, 0.5, out="half")
    large = net.dense(x, 8, weights=net.rng.normal(0, 50, (8, 12)), out="large")
    joined = net.concat(small, large, out="joined")
    source = net.bytes(net.dense(small, 4, out="y"), joined)
    rules = (LayerRule(regex="^(half|large|joined)$", activations="int16"),)
    planned = plan_of(source, config=config_of(rules=rules))
    assert planned.grid("half") == planned.grid("large") == planned.grid("joined")
    read = planned.plan.ops["y"].edges[0]
    assert read.dtype == "int8"
    # About twice 0.5 in 255 steps, and not the hundreds that the 16-bit grid spans.
    assert read.scale[0] <= 1.5 / 255


def test_single_inputs_and_outputs_have_types_of_their_own():
    net = Net(3)
    x, z = net.input(1, 12, name="x"), net.input(1, 12, name="z")
    y = net.op("ADD", x, z, out="y")
    w = net.op("MUL", x, z, out="w")
    planned = plan_of(net.bytes(y, w), config=config_of(io_types={"z": "int16", "w": "float32"}))
    plan = planned.plan
    assert {n: g.dtype for n, g in plan.inputs.items()} == {"x": "int8", "z": "int16"}
    assert {n: g.dtype for n, g in plan.outputs.items()} == {"y": "int8", "w": "float32"}
    assert plan.config["io_types"] == {"z": "int16", "w": "float32"}
    with pytest.raises(UsageError, match="type of z"):
        config_of(io_types={"z": "int4"})
