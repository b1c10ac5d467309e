"""Grids of their own for tensors that something joins with others of another range."""

import dataclasses

import numpy as np
import pytest
from small_models import Net, draw, plan_of

from tests.improve.contexts import context
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import options_type
from tfq.improve import improve
from tfq.improve.own_grids import OwnGrids
from tfq.plan.plan import Plan
from tfq.quantize.emit import emit
from tfq.runtime import Runner


def packed(size, join="CONCATENATION"):
    """A tensor in [-1, 1] that a layer reads, joined with one `size` times as large."""
    net = Net(3)
    x = net.input(1, 12, name="x")
    small = net.op("TANH", net.dense(x, 8), out="tanh")
    small = net.op("MUL", small, net.dense(x, 8, out="gate"), out="small")
    large = net.dense(x, 8, weights=size * net.rng.normal(0, 1, (8, 12)), out="large")
    if join == "CONCATENATION":
        state = net.concat(small, large, out="state")
    elif join == "PACK":
        options = options_type("PackOptions")()
        options.axis, options.valuesCount = 2, 2
        state = net.op("PACK", small, large, shape=(1, 8, 2), out="state", options=options)
    else:
        chosen = net.op("LESS", net.dense(x, 8, out="asked"), 0.0, dtype="bool")
        state = net.op(
            "SELECT_V2", chosen, small, large, shape=(1, 8), dtype="float32", out="state"
        )
    return net.bytes(net.dense(small, 4, out="y"), state)


@pytest.mark.parametrize("join", ["CONCATENATION", "PACK", "SELECT_V2"])
def test_what_shares_a_grid_with_larger_values_gets_its_own(join):
    source = packed(50.0, join)
    start = plan_of(source, draw(source, 60)).candidate()
    best, (outcome,) = improve(start, [OwnGrids()], context([], draw(source, 40, seed=7)))
    assert outcome.kept == "1 tensor"
    assert best.config.own_grids == ("small",)
    own, state = (best.plan.tensors[n].grid for n in ("small", "state"))
    assert 8 * own.scale[0] < state.scale[0]
    assert best.plan.tensors["large"].grid == state
    changes = {c.output: c for c in outcome.changes}
    assert changes["y"].after_db > changes["y"].before_db + 10
    # The join sees the same integers as if it had been computed on the larger grid, to 1 LSB.
    made = [op for op in best.emitted.model.main.ops if op.name == "QUANTIZE"]
    assert sum(op.input(0).name == "small" for op in made) == 1
    # The record is whole, and gives the same bytes.
    plan = Plan.from_json(best.plan.to_json())
    assert plan.config["own_grids"] == ["small"]
    assert emit(best.prepared.model, plan).model.to_bytes() == best.bytes


def test_joined_integers_are_those_of_the_larger_grid():
    source = packed(50.0)
    start = plan_of(source, draw(source, 60)).candidate()
    config = dataclasses.replace(start.config, own_grids=("small",))
    best = start.reconfigured(config)
    runner, given = Runner(best.bytes), InputQuantizer(best.emitted.model)
    grid = best.plan.tensors["state"].grid
    exact = Runner(source)
    for sample in draw(source, 10, seed=3):
        got = runner.run(given(sample))["state"].astype(np.float64)
        want = exact.run(sample)["state"] / grid.scale[0] + grid.zero_point[0]
        assert np.abs(got - np.clip(want, -128, 127))[..., :8].max() <= 1.0


@pytest.mark.parametrize("size", [0.3, 1.0])
def test_nothing_is_proposed_where_ranges_are_alike(size):
    source = packed(size)
    start = plan_of(source, draw(source, 60)).candidate()
    best, outcomes = improve(start, [OwnGrids()], context([], draw(source, 40, seed=7)))
    assert (best, outcomes) == (start, ())


def test_nothing_is_proposed_where_only_the_join_reads_the_tensor():
    net = Net(3)
    x = net.input(1, 12, name="x")
    small = net.dense(x, 8, out="small")
    large = net.dense(x, 8, weights=net.rng.normal(0, 100, (8, 12)))
    state = net.concat(small, large, out="state")
    source = net.bytes(net.dense(state, 4, out="y"))
    start = plan_of(source, draw(source, 60)).candidate()
    assert improve(start, [OwnGrids()], context([], draw(source, 10)))[1] == ()
