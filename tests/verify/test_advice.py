"""What a collapse is told with. (Starved parts: `test_starved`, where the ways out are tried.)"""

import dataclasses

import pytest
from small_models import Net, config_of

from tfq.verify.advice import Advice
from tfq.verify.meter import OutputError, PartResult
from tfq.verify.proof import LayerError, Proof
from tfq.verify.starved import StarvedInput


def proof_of(collapsed=(), parts=()):
    output = OutputError("t:0", 9.0, 2.0, 1.5, 3.0, None, 0.5, parts=parts)
    worst = (LayerError("a", 1.0), LayerError("b;c", 2.0))
    return Proof(8, True, (output,), {}, "", collapsed, worst)


def told(proof, **options):
    net = Net()
    graph = net.graph(net.dense(net.input(1, 4), 4, out="t:0"))
    config = config_of(**options)
    return Advice(proof, graph, {"t:0": "scores"}, {"a": "conv"}, config, ()).warnings()


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({}, "If so, try --scheme=int16x8."),
        ({"scheme": "int16x8"}, "with --exclude, or try --scheme=dynamic."),
        ({"weight_bits": 4}, "or train the model for 4 bits."),
        ({"scheme": "dynamic"}, "what the model was trained on?"),
    ],
)
def test_a_collapse_is_told_with_the_worst_layers_and_a_way_out(options, way):
    (text,) = told(proof_of(("t:0",)), **options)
    assert text.startswith("THE OUTPUT COLLAPSED: scores no longer follows the float model")
    assert "worst tensors: conv (1.0 dB), b" in text
    assert text.endswith(way)


def test_a_part_that_collapsed_is_named_and_one_that_starves_is_told_once():
    part = PartResult("[..., 2:4]", 0.0, 1.0, 40.0, 1.0, 0.5, False, True)
    (text,) = told(proof_of(parts=(part,)))
    assert text.startswith("THE OUTPUT COLLAPSED: scores[..., 2:4] no longer follows")
    starved = dataclasses.replace(part, steps=0.5, starved=True)
    (text,) = told(proof_of(parts=(starved,)))
    assert text.startswith("A PART OF AN OUTPUT IS LOST: scores[..., 2:4], 0 to 1, has 0.5 steps")
    assert "--int16='^(t:0)$' --output_type=int16" in text
    assert told(proof_of()) == []


def test_an_output_that_starves_as_an_input_is_told():
    """A grid that training chose, say."""
    starved = StarvedInput("t:0", "joint", ("u",), (), -0.3, 0.3, 0.1, -2.0)
    proof = dataclasses.replace(proof_of(), starved=(starved,))
    (text,) = told(proof)
    assert text.startswith("AN INPUT OF A CONCATENATION IS LOST: t:0, -0.3 to 0.3, has 0.1 steps")
    (output,) = proof.outputs
    good = dataclasses.replace(output, sqnr_db=40.0, variation_db=40.0)
    assert told(dataclasses.replace(proof, outputs=(good,))) == []
    own = dataclasses.replace(starved, requantized=True)
    assert told(dataclasses.replace(proof, starved=(own,))) == []


def test_a_collapse_says_what_is_hidden_or_cannot_be_told_apart():
    proof = proof_of(("t:0",))
    (output,) = proof.outputs
    hidden = dataclasses.replace(output, hidden=(-4.0, 8.0))
    (text,) = told(dataclasses.replace(proof, outputs=(hidden,)))
    assert "Values of scores from -4 to 8 are lost on a grid that larger ones make coarse" in text
    assert text.endswith("as -50, or outside of it.")
    still = dataclasses.replace(output, constant=True, agreement=0.1)
    (text,) = told(dataclasses.replace(proof, outputs=(still,)))
    assert "scores moves by less than a step, so that its answers cannot be told apart." in text
