"""What a collapse is told with. (Starved parts: `test_starved`, where the ways out are tried.)"""

import dataclasses

import pytest
from small_models import Net, config_of

from tfq.verify.advice import Advice
from tfq.verify.meter import OutputError, PartResult
from tfq.verify.proof import LayerError, Proof


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
