"""The record of what was tried: what is in it, in the plan and in the file."""

import math

import numpy as np
import pytest
from small_models import ACT, Net

from tfq.convert import convert_model
from tfq.graph.model import Model
from tfq.improve import Attempt, Change, Outcome
from tfq.improve.evidence import record
from tfq.plan.evidence import Effect, Evidence, Refusal, from_json, read_evidence, to_json
from tfq.plan.plan import Plan


def change(output, part, before, after, loses=False):
    loss = before - after if math.isfinite(after) else -30.0
    return Change(output, part, before, after, loss, loses, loss < 0)


FIRST = (
    change("y", "", 20.0, 24.04),
    change("y", "before SOFTMAX", 20.0, 22.0),
    change("y", "before SOFTMAX [0:3]", 20.0, 20.5),
    change("z", "", -math.inf, math.inf),
)
REFUSED = (
    change("y", "", 20.0, 19.0, loses=True),
    change("z", "[1:2]", 30.0, 23.46, loses=True),
)


def test_of_every_output_the_whole_and_its_worst_part():
    attempts = (Attempt("mse", FIRST, True), Attempt("octav", REFUSED, False))
    (made,) = record([Outcome("calibration", "mse", attempts, FIRST, "", 1.5)])
    effects = (
        Effect("y", "", 20.0, 24.0),
        Effect("y", "before SOFTMAX [0:3]", 20.0, 20.5),
        Effect("z", "", -300.0, None),
    )
    assert made == Evidence("calibration", "mse", 2, effects, Refusal("octav", "z", "[1:2]", 6.5))
    assert from_json(to_json([made])) == (made,)


def test_what_could_not_be_built_or_judged_says_why():
    built = Attempt("mse", (), False, "No kernel.")
    tried = Outcome("own_grids", "", (built,), (), "", 0.1)
    noted = Outcome("bias_correction", "", (), (), "no layer has a bias", 0.1)
    assert [(e.kept, e.tried, e.note, e.refused) for e in record([tried, noted])] == [
        ("", 1, "No kernel.", None),
        ("", 0, "no layer has a bias", None),
    ]


@pytest.fixture(scope="module")
def converted():
    net = Net()
    x = net.input(1, 12, name="x")
    gains = 2.0 ** np.linspace(0, 6, 16)
    a = net.dense(x, 16, weights=net.rng.normal(0, 1, (16, 12)) * gains[:, None], act=ACT.RELU)
    y = net.dense(a, 4, weights=net.rng.normal(0, 1, (4, 16)) / gains, out="y")
    source = net.bytes(y)
    data = np.random.default_rng(0).exponential(1, (80, 12)).astype(np.float32)
    return source, data, convert_model(source, data, equalization="cross_layer")


def test_the_file_and_its_plan_say_what_the_summary_says(converted):
    _, _, result = converted
    found = read_evidence(Model.from_bytes(result.model))
    assert found == result.plan.improvements == Plan.from_json(result.plan.to_json()).improvements
    said = result.summary["improvements"]
    assert [e.name for e in found] == list(said)
    assert found[0].kept
    assert found[0].effects[0].after_db > found[0].effects[0].before_db + 3
    for e in found:
        assert e.kept == said[e.name]["kept"]
        assert e.tried == len(said[e.name]["tried"])
        changes = {(c["output"], c["part"]): c for c in said[e.name]["outputs"]}
        for effect in e.effects:
            (output,) = [o["name"] for o in result.summary["model"]["outputs"]]
            assert effect.after_db == round(changes[output, effect.part]["after_db"], 1)


def test_what_a_source_says_of_itself_is_not_said_of_the_result(converted):
    source, data, result = converted
    model = Model.from_bytes(source)
    model.metadata["tfq_improvements"] = Model.from_bytes(result.model).metadata["tfq_improvements"]
    plain = convert_model(model.to_bytes(), data, quality="fast")
    assert read_evidence(Model.from_bytes(plain.model)) == ()
