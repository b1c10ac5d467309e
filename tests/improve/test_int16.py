"""The layers whose error dominates in 16 bits, and what they may cost."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_models import ACT, Net, config_of, draw, plan_of

from tests.improve import lstm_core
from tests.improve.contexts import context
from tfq.convert import convert_model
from tfq.graph.model import Model
from tfq.improve import improve
from tfq.improve.bias import solved_anew
from tfq.improve.int16 import WidenLayers
from tfq.improve.islands import find_islands, find_stretches, operations
from tfq.plan.plan import Plan
from tfq.quantize.emit import emit

DATA = Path(__file__).parents[1] / "unroll" / "data"


def cancelling():
    """Large values are added and taken away again: what is rounded in between dominates."""
    net = Net(5)
    x = net.input(1, 32, name="x")
    a = net.dense(x, 32, act=ACT.RELU, out="a")
    small = net.dense(a, 8, out="small")
    large = net.op("TANH", net.dense(a, 8, out="arg"), out="tanh")
    large = net.op("MUL", large, 40.0, out="large")
    both = net.op("ADD", small, large, out="both")
    y = net.op("SUB", both, large, out="y")
    return net.bytes(y)


def uneven():
    """One channel is 200 times as large as those beside it, and hardly counts."""
    net = Net(2)
    x = net.input(1, 16, name="x")
    size = np.where(np.arange(16) == 3, 200.0, 1.0)[:, None]
    a = net.dense(x, 16, weights=size * net.rng.normal(0, 0.25, (16, 16)), out="a")
    weights = net.rng.normal(0, 0.25, (8, 16)) / size.T
    return net.bytes(net.dense(a, 8, weights=weights, out="y"))


def widened(candidate):
    grids = candidate.plan.tensors
    return {n for n in candidate.plan.ops if grids[n].grid.dtype == "int16"}


def tried(source, limit=0.1, fit=20, check=40, **options):
    start = plan_of(source, draw(source, 60), config_of(**options)).candidate()
    samples = context(draw(source, fit, 2), draw(source, check, 7))
    best, (outcome,) = improve(start, [WidenLayers(limit)], samples)
    return start, best, outcome


def test_what_is_rounded_too_coarsely_computes_in_16_bits():
    _, best, outcome = tried(cancelling())
    assert {"both", "y"} <= widened(best)
    (change,) = outcome.changes
    assert change.after_db > change.before_db + 6
    ops = best.prepared.model.main.ops
    wide = sum(operations(op) for op in ops if op.key in widened(best))
    share = wide / sum(map(operations, ops))
    assert share <= 0.1
    told = f"{share:.1%} of the operations, some {1 + 69 * share:.1f} times the time on x86"
    assert outcome.kept == f"{len(widened(best))} ops: {told}"


def test_layers_with_weights_are_widened_as_far_as_the_share_allows():
    _, best, outcome = tried(uneven(), limit=1.0)
    assert widened(best) == {"a", "y"}
    assert outcome.changes[0].after_db > outcome.changes[0].before_db + 6
    start, best, outcome = tried(uneven())
    assert best is start
    assert outcome.note == "100% of the operations at least, more than 10%"


def test_without_samples_to_judge_by_nothing_is_widened():
    start, best, outcome = tried(cancelling(), check=0)
    assert best is start
    assert "too few samples" in outcome.note


def test_nothing_is_widened_where_weights_are_to_blame():
    """Nothing but layers with weights of 2 bits: their rounding hides that of what they read."""
    net = Net(1)
    x = net.input(1, 32, name="x")
    a = net.dense(x, 32, out="a")
    y = net.dense(net.op("TANH", a, out="t"), 8, out="y")
    start, best, outcome = tried(net.bytes(y), weight_bits=2)
    assert best is start
    assert outcome.attempts
    assert not any(a.kept for a in outcome.attempts)


def test_a_layer_with_weights_is_widened_with_what_reads_it():
    source = cancelling()
    start = plan_of(source, draw(source, 60)).candidate()
    islands = {i.ops for i in find_islands(start, draw(source, 4))}
    assert {"both", "y"} in islands
    assert {"small", "both"} in islands


def test_stretches_begin_at_the_input():
    source = cancelling()
    start = plan_of(source, draw(source, 60)).candidate()
    keys = [op.key for op in start.prepared.model.main.ops]
    stretches = [s.ops for s in find_stretches(start)]
    assert stretches == [frozenset(keys[: i + 1]) for i in range(len(keys))]


def test_corrected_biases_are_solved_anew_for_wider_layers():
    source = uneven()
    samples = context(draw(source, 40, 2), draw(source, 40, 7))
    start = plan_of(source, draw(source, 60)).candidate()
    emitted = emit(start.prepared.model, start.plan, spare_biases=True).biases
    assert len(emitted) == 2
    found = []
    for off in (0, 5000):
        biases = {n: np.full_like(t.data, off) for n, t in emitted.items()}
        wrong = start.replanned(dataclasses.replace(start.plan, biases=biases))
        found.append(solved_anew(wrong, samples.fit).bytes)
        assert found[-1] != wrong.bytes
    # What was carried over has no say; what was not corrected is left alone.
    assert found[0] == found[1]
    assert solved_anew(start, samples.fit) is start


def test_an_output_of_fixed_range_keeps_its_own_8_bit_grid():
    """A sigmoid of 16 bits is signed: 8 bits of it have half the steps."""
    net = Net(3)
    x = net.input(1, 16, name="x")
    source = net.bytes(net.op("LOGISTIC", net.dense(x, 8, out="a"), out="y"))
    for output_type, kept in ((None, True), ("float32", False)):
        config = config_of(output_type=output_type)
        start = plan_of(source, draw(source, 60), config).candidate()
        wide = frozenset().union(*(i.ops for i in find_stretches(start)))
        assert wide == ({"a"} if kept else {"a", "y"})


@pytest.mark.slow
def test_all_steps_of_an_unrolled_loop_are_widened_together():
    """One step alone hardly shows."""
    source = (DATA / "lstm.tflite").read_bytes()
    _, best, outcome = tried(source)
    assert outcome.changes[0].after_db > outcome.changes[0].before_db + 2
    steps = {}
    for op in best.prepared.model.main.ops:
        step = op.outputs[0].step
        if step is not None and op.key in widened(best):
            steps.setdefault(step.tensor, []).append(step.number)
    assert steps
    # The last or the first step may differ from the others in what reads it.
    assert all(len(numbers) >= 9 for numbers in steps.values())
    wide = sum(operations(op) for op in best.prepared.model.main.ops if op.key in widened(best))
    assert wide <= 0.1 * sum(map(operations, best.prepared.model.main.ops))


# --- states ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    """Two cores one behind the other: float models, their samples, and sounds held back."""
    clean, noisy = lstm_core.signals(8, 250, 0)
    first = lstm_core.fitted(0, noisy, clean)
    middle, fed = lstm_core.run(first, noisy)
    second = lstm_core.fitted(1, middle, clean)
    _, fed_second = lstm_core.run(second, middle)
    return [first, second], [fed[::15], fed_second[::15]], lstm_core.signals(4, 250, 1)


def heard(models, noisy):
    for model in models:
        noisy, _ = lstm_core.run(model, noisy)
    return noisy


@pytest.mark.slow
def test_a_pair_of_recurrent_cores_is_as_good_as_float(pair):
    """int8 alone loses most of what they do: h shares a grid with c, which is 200 times larger."""
    models, fed, (clean, noisy) = pair
    states = np.array([s["state"] for s in fed[0]])
    assert np.abs(states[..., 0]).max() < 1.0
    assert states[..., 1].max() > 150
    want = lstm_core.si_sdr(clean, heard(models, noisy))
    assert want > lstm_core.si_sdr(clean, noisy) + 6
    results = {}
    for option in ("none", "auto"):
        results[option] = [
            convert_model(m, {n: np.stack([s[n][0] for s in f]) for n in f[0]}, int16=option)
            for m, f in zip(models, fed, strict=True)
        ]
    alone, islands = (
        lstm_core.si_sdr(clean, heard([r.model for r in found], noisy))
        for found in results.values()
    )
    assert alone < want - 4
    assert islands > want - 1
    for source, result in zip(models, results["auto"], strict=True):
        given = {t.name: t.dtype for t in Model.from_bytes(result.model).main.inputs}
        assert given == {"x": "int8", "state": "int16"}
        # Layers with weights, nearly all operations, stay as they are.
        dense = [n for n, op in result.plan.ops.items() if op.op == "FULLY_CONNECTED"]
        assert {result.plan.tensors[n].grid.dtype for n in dense} == {"int8"}
        told = result.summary["improvements"]["int16"]["kept"]
        assert "state and state_next INT16 OUTSIDE, TOO: " in told
        plan = Plan.from_json(result.plan.to_json())
        assert plan.config["io_types"] == {"state": "int16", "state_next": "int16"}
        assert convert_model(source, plan=plan).model == result.model


def test_float_states_stay_float_outside(pair):
    models, fed, (clean, noisy) = pair
    found = []
    for source, samples in zip(models, fed, strict=True):
        config = config_of(input_type="float32", output_type="float32")
        start = plan_of(source, samples[:100], config).candidate()
        best, _ = improve(start, [WidenLayers()], context(samples[:40], samples[100:]))
        assert best.config.io_types == {}
        found.append(best.bytes)
    want = lstm_core.si_sdr(clean, heard(models, noisy))
    assert lstm_core.si_sdr(clean, heard(found, noisy)) > want - 1


def test_types_that_the_user_gives_stay(pair):
    source, samples = pair[0][0], pair[1][0]
    config = config_of(input_type="int8")
    start = plan_of(source, samples[:100], config).candidate()
    assert not any(i.io for i in find_islands(start, samples[:16]))
    free = start.reconfigured(config_of())
    assert any(i.io for i in find_islands(free, samples[:16]))
    # Nor do they change where the user did not ask for 16 bits: an app feeds int8.
    assert not any(i.io for i in find_islands(free, samples[:16], outside=False))
