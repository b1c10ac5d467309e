"""The walk gives the integers of whole runs, bit for bit, wherever it halts."""

import dataclasses

import numpy as np
import pytest
from small_models import ACT, Net, cnn, config_of, draw, plan_of, svdf

from tfq.errors import ModelError, TfqError
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Graph, Model, Op, Tensor, options_type
from tfq.runtime import Runner
from tfq.walk import Walk, obstacle_to_walk
from tfq.walk.obstacles import multiplications
from tfq.walk.stretches import GraphWalk, Kernels


def branching(seed=0, prelu=True):
    """Two inputs; PReLU, resize, split, residual, concatenation; three outputs, one a constant."""
    net = Net(seed)
    x, z = net.input(1, 6, 6, 4, name="x"), net.input(1, 6, 6, 4, name="z")
    a = net.conv(x, 4, size=1, act=ACT.RELU, out="a")
    b = net.depthwise(net.op("ADD", x, z, out="sum"), size=1, out="b")
    if prelu:
        b = net.op("PRELU", b, net.const(net.rng.uniform(0, 1, (1, 1, 4))), out="prelu")
    big = net.op(
        "RESIZE_BILINEAR",
        b,
        net.const([12, 12], "int32"),
        shape=(1, 12, 12, 4),
        options=options_type("ResizeBilinearOptions")(),
        out="big",
    )
    halves = [Tensor(n, (1, 6, 6, 2), "float32") for n in ("left", "right")]
    options = options_type("SplitOptions")()
    options.numSplits = 2
    net.ops.append(Op("SPLIT", [net.const(3, "int32"), a], halves, options))
    c = net.op("ADD", a, b, out="c")
    joined = net.concat(halves[1], c, halves[0], z, out="joined")
    d = net.conv(joined, 5, act=ACT.RELU6, out="d")
    y = net.dense(net.mean(d, out="pooled"), 3, out="y")
    w = net.dense(net.mean(big, out="pooled2"), 3, out="w")
    constant = net.const([1.0, 2.0], name="constant")
    return net.bytes(net.softmax(y, out="p"), halves[0], net.op("ADD", w, y, out="s"), constant)


def quantized(source, count=5, **options):
    samples = draw(source, count, seed=3)
    planned = plan_of(source, samples, config_of(**options))
    return planned, planned.emit(), samples


def whole_runs(model, samples):
    """Every tensor of every sample, by name."""
    runner = Runner(model.to_bytes(), keep_intermediates=True)
    feed, found = InputQuantizer(model), []
    for sample in samples:
        runner.run(feed(sample))
        found.append({t.name: runner.tensor(i) for i, t in enumerate(model.main.tensors())})
    return found


SCHEMES = {
    "int8": {},
    "int16x8": {"scheme": "int16x8"},
    "int4": {"weight_bits": 4},
}


@pytest.mark.parametrize("options", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("memory", [1 << 20, 1500, 0])
def test_every_kept_value_is_that_of_whole_runs(options, memory):
    source = branching(prelu=options.get("scheme") != "int16x8")
    _, emitted, samples = quantized(source, **options)
    expected = whole_runs(emitted.model, samples)
    seen, spilled = set(), 0
    with Walk(emitted, samples, memory=memory) as walk:
        names = []
        for layer in walk:
            names.append(layer.name)
            for t in walk.integer.boundary:
                seen.add(t.name)
                spilled += walk.integer.boundary[t].on_disk
                for n, value in enumerate(walk.integer.boundary[t]):
                    np.testing.assert_array_equal(value, expected[n][t.name])
            for n, value in enumerate(layer.outputs()):
                np.testing.assert_array_equal(value, expected[n][layer.y.name])
        outputs = walk.outputs()
        assert walk.integer.boundary.peak <= memory
    assert names == ["a", "b", "d", "y", "w"]
    assert {"left", "joined", "pooled"} <= seen
    assert (spilled > 0) == (memory < 1 << 20)
    made = [t.name for t in emitted.model.main.outputs if not t.is_const]
    assert list(outputs) == made
    assert len(made) == 3


def test_outputs_of_all_samples_come_at_the_end():
    _, emitted, samples = quantized(branching())
    expected = whole_runs(emitted.model, samples)
    with Walk(emitted, samples, layers=["d"]) as walk:
        with pytest.raises(ValueError, match="end"):
            walk.outputs()
        assert [layer.name for layer in walk] == ["d"]
        for name, values in walk.outputs().items():
            assert len(values) == len(samples)
            for n, value in enumerate(values):
                np.testing.assert_array_equal(value, expected[n][name])


def test_the_walk_goes_on_with_what_was_replaced_and_stops_anywhere():
    _, emitted, samples = quantized(cnn())
    before = emitted.model.to_bytes()
    with Walk(emitted, samples) as walk:
        first = next(walk)
        moved = dataclasses.replace(first.bias, data=first.bias.values() + 300)
        first.replace(2, moved)
        half = walk.model
        for layer in walk:
            layer.replace(2, dataclasses.replace(layer.bias, data=layer.bias.values() - 100))
        outputs, changed = walk.outputs(), walk.model
        for n, expected in enumerate(whole_runs(changed, samples)):
            for name, values in outputs.items():
                np.testing.assert_array_equal(values[n], expected[name])
    with pytest.raises(ValueError, match="gone on"):
        first.inputs[0]
    assert half.main.ops[0].inputs[2] is moved
    assert half.main.ops[1].inputs[2] is emitted.model.main.ops[1].inputs[2]
    assert emitted.model.to_bytes() == before
    assert changed.to_bytes() != before


def test_an_interrupted_stretch_runs_again(monkeypatch):
    _, emitted, samples = quantized(cnn())
    runs, real = [], Kernels.__call__

    def interrupted(self, values):
        runs.append(len(runs))
        if len(runs) == 8:
            raise KeyboardInterrupt
        return real(self, values)

    monkeypatch.setattr(Kernels, "__call__", interrupted)
    with Walk(emitted, samples) as walk:
        next(walk)
        next(walk)
        held = walk.integer.boundary.memory
        with pytest.raises(KeyboardInterrupt):
            next(walk)
        assert walk.integer.boundary.memory == held
        for _ in walk:
            pass
        expected = whole_runs(emitted.model, samples)
        for name, values in walk.outputs().items():
            for n, value in enumerate(values):
                np.testing.assert_array_equal(value, expected[n][name])


def test_float_values_come_along():
    planned, emitted, samples = quantized(cnn())
    model = planned.prepared.model
    expected = whole_runs(model, samples)
    ticks = []
    with Walk(
        emitted,
        samples,
        float_model=model,
        float_values=True,
        progress=lambda done, total: ticks.append((done, total)),
    ) as walk:
        for layer in walk:
            x = planned.op(layer.name).input(0).name
            for n, value in enumerate(layer.float_inputs):
                np.testing.assert_allclose(value, expected[n][x], rtol=1e-5, atol=1e-6)
    assert ticks[-1] == (10, 10)  # Five runs of the float model, and five stretches.


def test_shapes_that_depend_on_values_and_integer_inputs():
    """WHERE, and TOPK of int32: what one sample has, others have not."""
    x, flags = Tensor("x", (1, 6), "int32"), Tensor("flags", (6,), "bool")
    top, places = Tensor("top", (1, 2), "int32"), Tensor("places", (1, 2), "int32")
    found = Tensor("found", (0, 1), "int64", signature=(-1, 1))
    shape = Tensor("shape", (2,), "int32")
    ops = [
        Op("TOPK_V2", [x, Tensor("k", (), "int32", np.array(2, np.int32))], [top, places]),
        Op("WHERE", [flags], [found]),
        Op("SHAPE", [found], [shape], options_type("ShapeOptions")()),
    ]
    ops[2].options.outType = 2  # int32
    model = Model([Graph("main", ops, [x, flags], [places, shape])])
    rng = np.random.default_rng(0)
    samples = [
        {"x": rng.integers(0, 99, (1, 6)).astype(np.int32), "flags": rng.random(6) > 0.5}
        for _ in range(4)
    ]
    runner = Runner(model.to_bytes())
    with GraphWalk(model, {ops[1], ops[2]}, 1 << 20) as walk:
        walk.feed(samples)
        walk.run_until(ops[2])
        assert {walk.boundary[found][n].shape[0] for n in range(4)} == {
            int(s["flags"].sum()) for s in samples
        }
        walk.run_next()
        assert top not in walk.boundary
        for n, sample in enumerate(samples):
            expected = runner.run(sample)
            for t in (places, shape):
                np.testing.assert_array_equal(walk.boundary[t][n], expected[t.name])
        with pytest.raises(ValueError, match="WHERE"):
            walk.run_until(ops[1])


def test_loops_run_whole():
    def scalar(name, dtype="int32", value=None):
        return Tensor(name, (1,), dtype, None if value is None else np.array([value], np.int32))

    x, y, z = scalar("x"), scalar("y"), scalar("z")
    loop = options_type("WhileOptions")()
    loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 2
    a, less = scalar("a"), scalar("less", "bool")
    condition = Graph("cond", [Op("LESS", [a, scalar("most", value=50)], [less])], [a], [less])
    b, c = scalar("b"), scalar("c")
    add = options_type("AddOptions")
    body = Graph("body", [Op("ADD", [b, scalar("seven", value=7)], [c], add())], [b], [c])
    ops = [Op("WHILE", [x], [y], loop), Op("ADD", [y, x], [z], add())]
    model = Model([Graph("main", ops, [x], [z]), condition, body])
    assert obstacle_to_walk(model) == ""
    with GraphWalk(model, set(ops), 1 << 20) as walk:
        walk.feed([{"x": np.array([n], np.int32)} for n in (0, 3)])
        while walk.done < walk.stretches:
            walk.run_next()
        assert [int(v[0]) for v in walk.boundary[z]] == [56, 55]


def test_state_starts_anew_with_every_sample():
    model = svdf()
    assert obstacle_to_walk(model) == ""
    sample = {"x": np.ones((1, 2), np.float32)}
    with GraphWalk(model, (), 1 << 20) as walk:
        walk.feed([sample] * 3)
        walk.run_next()
        first, *rest = walk.boundary[model.main.outputs[0]]
        np.testing.assert_array_equal(first, Runner(model.to_bytes()).run(sample)["y"])
        for later in rest:
            np.testing.assert_array_equal(later, first)


def test_what_cannot_be_walked_says_so_before_it_starts():
    shared = svdf()
    op = shared.main.ops[0]
    second = Tensor("y2", (1, 3), "float32")
    shared.main.ops.append(dataclasses.replace(op, outputs=[second]))
    assert "share the state 's'" in obstacle_to_walk(shared)
    random = Tensor("r", (2,), "float32")
    shape = Tensor("shape", (1,), "int32", np.array([2], np.int32))
    drawn = Model([Graph("main", [Op("RANDOM_UNIFORM", [shape], [random])], [], [random])])
    assert "random numbers" in obstacle_to_walk(drawn)
    handle = Tensor("h", (), "resource")
    stored = Model([Graph("main", [Op("VAR_HANDLE", [], [handle])], [], [])])
    assert "'h' is of type resource" in obstacle_to_walk(stored)
    words = Tensor("words", (2,), "string")
    assert "'words' is of type string" in obstacle_to_walk(
        Model([Graph("m", [], [words], [words])])
    )
    _, emitted, samples = quantized(cnn())
    with pytest.raises(ModelError, match="cannot be walked layer by layer: RANDOM_UNIFORM at 'r'"):
        Walk(dataclasses.replace(emitted, model=drawn), samples)


def test_files_of_values_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _, emitted, samples = quantized(cnn())
    with Walk(emitted, samples, memory=0) as walk:
        for _ in walk:
            assert list(tmp_path.rglob("*.values"))
    assert not list(tmp_path.iterdir())


def test_no_room_for_files_is_one_error(tmp_path, monkeypatch):
    _, emitted, samples = quantized(cnn())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(TfqError, match=r"temporary folder .*TMPDIR"):
        Walk(emitted, samples, memory=0)


def test_multiplications_of_layers_with_weights():
    net = Net()
    a = net.conv(net.input(1, 8, 8, 3), 6)  # 6 x 6 positions, 6 channels, 27 weights each
    b = net.depthwise(a)  # 4 x 4 positions, 6 channels, 9 weights each
    y = net.dense(net.mean(b), 5)
    ops = net.graph(y).ops
    assert [multiplications(op) for op in ops] == [36 * 6 * 27, 16 * 6 * 9, 0, 6 * 5]
