"""Samples in shards, on threads, in other processes; and samples that do not fit."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from layers_by_hand import (
    both,
    by_name,
    stacked,
)
from small_models import Net, cnn, config_of, draw

from tfq.errors import DataError
from tfq.evaluate.layers import analyse_layers, count, finish, isolate, pair
from tfq.executors import open_workers
from tfq.graph.model import Graph, Op, Tensor, options_type
from tfq.runtime import Runner


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_shards_and_threads_change_no_bit(scheme, monkeypatch):
    floats, quantized = both(cnn(size=20), config_of(scheme))
    samples = draw(floats, 9, seed=3)
    pairing = pair(floats, quantized)
    isolated = isolate(pairing)
    results = [
        finish(pairing, count(pairing, isolated, samples, threads=threads)) for threads in (1, 2, 3)
    ]
    for size in (1, 4):
        monkeypatch.setattr("tfq.evaluate.layers.work.SHARD", size)
        with open_workers(executor=ThreadPoolExecutor(2)) as workers:
            results.append(finish(pairing, count(pairing, isolated, samples, workers=workers)))
    assert all(r == results[0] for r in results[1:])
    assert results[0].samples == 9


def test_a_sample_may_hold_several_runs():
    floats, quantized = both(cnn())
    samples = draw(floats, 3, seed=3)
    pairing = pair(floats, quantized)
    isolated = isolate(pairing)
    apart = count(pairing, isolated, samples)
    together = count(pairing, isolated, [stacked(samples)])
    assert together.samples == 3
    assert finish(pairing, apart) == finish(pairing, together)


def test_progress_counts_samples():
    floats, quantized = both(cnn())
    seen = []
    analyse_layers(floats, quantized, draw(floats, 11), progress=seen.append)
    assert seen == list(range(1, 12))


def test_no_samples_and_wrong_samples_are_said():
    floats, quantized = both(cnn())
    with pytest.raises(DataError, match="no samples"):
        analyse_layers(floats, quantized, [])
    with pytest.raises(DataError, match=r"'image' takes float32\[1, 8, 8, 2\]"):
        analyse_layers(floats, quantized, [{"image": np.zeros((1, 7, 8, 2), np.float32)}])
    with pytest.raises(DataError, match="lack input 'image'"):
        analyse_layers(floats, quantized, [{"picture": np.zeros((1, 8, 8, 2), np.float32)}])
    bad = np.full((1, 8, 8, 2), np.nan, np.float32)
    with pytest.raises(DataError, match="Input 'image' holds NaN"):
        analyse_layers(floats, quantized, [{"image": bad}])


def test_a_state_starts_anew_for_every_sample():
    net = Net()
    x = net.input(1, 4, name="x")
    variable = options_type("VarHandleOptions")()
    variable.container, variable.sharedName = "", "state"
    assign = options_type("AssignVariableOptions")()
    once = options_type("CallOnceOptions")()
    once.initSubgraphIndex = 1
    net.ops.append(Op("CALL_ONCE", [], [], once))
    handle = net.op("VAR_HANDLE", shape=(), dtype="resource", options=variable, out="handle")
    read = options_type("ReadVariableOptions")()
    old = net.op("READ_VARIABLE", handle, shape=(1, 4), dtype="float32", options=read, out="old")
    new = net.op("ADD", net.op("MUL", old, 0.5), net.op("TANH", x), out="new")
    net.ops.append(Op("ASSIGN_VARIABLE", [handle, new], [], assign))
    model = net.model(net.dense(new, 3, out="y"))
    inner = Tensor("inner", (), "resource")
    start = net.const(np.full((1, 4), 0.3), name="start")
    first = [
        Op("VAR_HANDLE", [], [inner], variable),
        Op("ASSIGN_VARIABLE", [inner, start], [], assign),
    ]
    model.graphs.append(Graph("start", first, [], []))
    source = model.to_bytes()
    island = ("READ_VARIABLE", "ASSIGN_VARIABLE")
    floats, quantized = both(source, config_of(allow_float=island))
    samples = draw(floats, 6, seed=3)
    pairing = pair(floats, quantized)
    isolated = isolate(pairing)
    whole = finish(pairing, count(pairing, isolated, samples, threads=1))
    with open_workers(executor=ThreadPoolExecutor(2)) as workers:
        shared = finish(pairing, count(pairing, isolated, samples[::-1], workers=workers))
    assert shared == whole
    found = by_name(whole)
    assert found["old/int8"].observed == pytest.approx((0.3, 0.3))
    runner = Runner(floats)
    largest = max(float(runner.run(s)["y"].max()) for s in samples[:1])
    assert found["y"].observed[1] >= largest
