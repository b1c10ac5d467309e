"""Ops that do more than compute: dropped, folded and batched only where nothing is lost."""

import numpy as np
import pytest
from small_models import Net

from tfq.graph.effects import has_side_effects, is_pure, is_repeatable, keeps_state
from tfq.graph.model import OP_CODES, Graph, Model, Op, Tensor, options_type
from tfq.graph.optable import effects
from tfq.graph.rebatch import is_stateful, with_free_batch

STATEFUL = [name for name in OP_CODES if not effects(name).repeatable]


def test_ops_with_state_are_known():
    assert {"CALL", "CALL_ONCE", "CUSTOM", "DELEGATE", "IF", "STABLEHLO_WHILE"} < set(STATEFUL)
    assert {n for n in OP_CODES if "VARIABLE" in n or "RANDOM" in n} < set(STATEFUL)
    # It looks keys up in a tensor, not in a table of the interpreter.
    assert "HASHTABLE_LOOKUP" not in STATEFUL


@pytest.mark.parametrize("name", STATEFUL)
def test_what_has_state_is_never_computed_early(name):
    op = Op(name, [], [Tensor("y", (), "float32")])
    assert not is_repeatable(op)
    assert not is_pure(op)
    assert has_side_effects(op) == (effects(name).writes or effects(name).calls)


def test_variables_are_state_whatever_reads_them():
    state = Tensor("state", (1,), "float32", is_variable=True)
    op = Op("ADD", [state, state], [Tensor("y", (1,), "float32")])
    assert keeps_state(op)
    assert has_side_effects(op)
    assert not is_repeatable(op)
    assert not is_repeatable(Op("ADD", [Tensor("v", (), "resource")], []))
    assert is_repeatable(Op("QUANTIZE", [Tensor("x", (1,), "float32")], []))
    assert not is_pure(Op("QUANTIZE", [Tensor("x", (1,), "float32")], []))


def test_filling_a_table_is_not_pruned():
    """HASHTABLE_IMPORT has no outputs that anything could read."""
    table = Tensor("table", (1,), "resource")
    keys = Tensor("keys", (2,), "int64", np.array([1, 2]))
    x, y = Tensor("x", (2,), "float32"), Tensor("y", (2,), "float32")
    unread = Tensor("unread", (2,), "float32")
    ops = [
        Op("HASHTABLE", [], [table]),
        Op("HASHTABLE_IMPORT", [table, keys, keys], []),
        Op("ABS", [x], [unread]),
        Op("ABS", [x], [y]),
    ]
    graph = Graph("main", ops, [x], [y])
    graph.prune()
    assert graph.ops == [ops[0], ops[1], ops[3]]


def test_random_numbers_forbid_batches_but_are_no_state():
    """All samples of a batch would get the same ones."""
    net = Net()
    x = net.input(1, 3)
    shape = net.const([1, 3], "int32")
    options = options_type("RandomOptions")()
    noise = net.op("RANDOM_UNIFORM", shape, shape=(1, 3), dtype="float32", options=options)
    model = Model.from_bytes(net.bytes(net.op("ADD", x, noise, out="y")))
    assert with_free_batch(model) is None
    assert not is_stateful(model)
