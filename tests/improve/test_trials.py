"""The loop that all improvements go through, and what each of them proposes."""

import dataclasses

import numpy as np
import pytest
from small_models import draw, plan_of

from tests.improve.contexts import context, several, troubled
from tfq.calibrate.run import calibrate
from tfq.errors import TfqError
from tfq.improve import Proposal, improve
from tfq.improve.absorb_bias import AbsorbBiases
from tfq.improve.bias import CorrectBiases
from tfq.improve.cost import Cost
from tfq.improve.equalization import Equalize
from tfq.improve.errors import OutputJudge
from tfq.improve.int16 import WidenLayers
from tfq.improve.own_grids import OwnGrids
from tfq.improve.ranges import ChooseRanges
from tfq.improve.trials import NothingToDoError, affordable
from tfq.improve.weight_scales import ChooseWeightScales

ALL_IMPROVEMENTS = [
    Equalize(),
    AbsorbBiases(),
    OwnGrids(),
    ChooseWeightScales(),
    ChooseRanges(),
    CorrectBiases(),
    WidenLayers(),
]


def shifted(start, layer, steps):
    """The candidate with one layer's biases moved by so many steps of its output."""
    out = start.plan.tensors[layer].grid.scale[0]
    scale = np.array(start.plan.ops[layer].edges[2].scale)
    bias = start.emitted.biases[layer].values()
    moved = (bias + np.rint(steps * out / scale)).astype(bias.dtype)
    return start.replanned(dataclasses.replace(start.plan, biases={layer: moved}))


@dataclasses.dataclass(frozen=True)
class Given:
    """Proposes what it is given, and remembers what it was told."""

    proposals: tuple
    told: list = dataclasses.field(default_factory=list)
    name: str = "given"

    def cost(self, start, context):
        return Cost(trials=len(self.proposals))

    def propose(self, start, context):
        for proposal in self.proposals:
            self.told.append((yield proposal))


@pytest.fixture(scope="module")
def planned():
    return plan_of(several(0), draw(several(0), 200))


@pytest.fixture(scope="module")
def samples():
    return draw(several(0), 40, seed=7)


def test_the_best_of_what_gains_is_kept_and_what_harms_is_not(planned, samples):
    good = planned.candidate()
    start = shifted(good, "y1", 20)
    tried = Given(
        (
            Proposal("worse", lambda: shifted(good, "y1", 30)),
            Proposal("half", lambda: shifted(good, "y1", 10)),
            Proposal("all", lambda: good),
            Proposal("other", lambda: shifted(good, "y2", 20)),
        )
    )
    best, (outcome,) = improve(start, [tried], context([], samples))
    assert best is good
    assert [a.best for a in tried.told] == [False, True, True, False]
    assert [a.losers for a in tried.told] == [{"y1"}, set(), set(), {"y2"}]
    assert (outcome.name, outcome.kept) == ("given", "all")
    assert [a.kept for a in outcome.attempts] == [False, True, True, False]
    changes = {(c.output, c.part): c for c in outcome.changes}
    assert changes["y1", ""].gains
    assert changes["y1", ""].after_db > changes["y1", ""].before_db + 10


def test_small_losses_do_not_add_up(planned, samples):
    """Each step is judged against the model before any improvement, too."""
    good = planned.candidate()
    start = shifted(good, "y1", 20)
    first = Given((Proposal("y1", lambda: good),))
    # Better than what the first kept in no output, worse than the start in one.
    second = Given((Proposal("y0", lambda: shifted(good, "y0", 20)),))
    best, outcomes = improve(start, [first, second], context([], samples))
    assert best is good
    assert [o.kept for o in outcomes] == ["y1", ""]
    assert "y0" in second.told[0].losers


def test_what_cannot_be_built_is_on_record_and_an_error_where_it_was_asked_for(planned, samples):
    def fails():
        raise TfqError("Tensor 't' has no statistics.")

    start = planned.candidate()
    best, (outcome,) = improve(start, [Given((Proposal("x", fails),))], context([], samples))
    assert best is start
    assert outcome.attempts[0].why == "Tensor 't' has no statistics."
    with pytest.raises(TfqError, match="no statistics"):
        improve(start, [Given((Proposal("x", fails, asked=True),))], context([], samples))


def test_what_was_asked_for_is_kept_though_it_harms(planned, samples):
    good = planned.candidate()
    asked = Given((Proposal("x", lambda: shifted(good, "y1", 20), asked=True),))
    best, (outcome,) = improve(good, [asked], context([], samples))
    assert best is not good
    assert any(c.loses for c in outcome.changes)
    best, (outcome,) = improve(good, [asked], context([], []))
    assert best is not good
    assert "too few samples" in outcome.note


def test_nothing_to_do_is_said_or_left_out(planned, samples):
    class Declines:
        name = "declines"

        def cost(self, start, context):
            return Cost()

        def propose(self, start, context):
            raise NothingToDoError("for a reason")
            yield

    start = planned.candidate()
    best, outcomes = improve(start, [Declines(), Given(())], context([], samples))
    assert best is start
    assert [(o.name, o.note) for o in outcomes] == [("declines", "for a reason")]


def test_range_rules_are_tried_on_the_network_and_on_parts_of_it(planned, samples):
    start = planned.candidate()
    _, (outcome,) = improve(start, [ChooseRanges()], context([], samples))
    names = [a.what for a in outcome.attempts]
    assert names[:4] == ["percentile:99.99", "percentile:99.999", "octav", "moving_average"]
    assert any(" of " in n for n in names[4:])
    _, (few,) = improve(start, [ChooseRanges()], context([], samples, budget=0.0))
    assert len(few.attempts) == 1


def test_few_values_keep_the_rule_that_reaches_past_the_samples(samples):
    """The judge's samples are calibrated ones: it does not see what later ones lose."""
    start = plan_of(several(0), draw(several(0), 60)).candidate()
    best, (outcome,) = improve(start, [ChooseRanges()], context([], samples))
    assert best is start
    assert not outcome.attempts
    assert "too few values" in outcome.note


@pytest.mark.slow
@pytest.mark.parametrize("count", [16, 60])
def test_nothing_kept_makes_an_output_worse_on_samples_held_back(count):
    """All improvements, as a conversion tries them: on calibrated samples, half of them to judge
    by. Small random networks with several outputs; a bias is off, and of half of them more."""
    tried, kept = set(), set()
    for seed in range(12):
        source = (several, troubled)[seed % 2](seed)
        layer = (("a", "b0", "b1", "y1"), ("a", "b", "c", "y1"))[seed % 2][seed // 2 % 4]
        calibrated = draw(source, count, seed=seed + 100)
        good = plan_of(source, calibrated).candidate()
        start = shifted(good, layer, np.random.default_rng(seed).normal(0, 3))
        held_back = OutputJudge(start, draw(source, 60, seed=seed + 200))

        def measure(prepared, tensors, calibrated=calibrated):
            return calibrate(prepared.bytes, calibrated, tensors=tensors, mode="full")

        samples = context(calibrated[::2], calibrated[1::2], measure=measure)
        best, outcomes = improve(start, ALL_IMPROVEMENTS, samples)
        tried |= {o.name for o in outcomes if o.attempts}
        kept |= {o.name for o in outcomes if o.kept}
        before, after = held_back.errors(start), held_back.errors(best)
        for key, b in before.items():
            off = after[key].errors - b.errors
            # In 200 comparisons three standard errors leave room for no more than luck.
            luck = 3 * off.std(ddof=1) / len(off) ** 0.5
            assert off.mean() <= max(luck, b.floor), (seed, key)
    assert tried == {i.name for i in ALL_IMPROVEMENTS}
    assert kept == tried or count == 16


def test_large_models_are_improved_with_fewer_samples():
    planned = plan_of(several(0))
    fit, check = affordable(planned.graph, range(75), range(25), 1e12)
    assert (len(fit), len(check)) == (75, 25)
    fit, check = affordable(planned.graph, range(75), range(25), 1.0)
    assert (len(fit), len(check)) == (24, 8)
