"""Ranges that kernels could not do with are widened."""

import numpy as np
from small_models import Net, plan_of


def test_arguments_of_a_softmax_that_are_all_alike_get_a_scale_that_its_kernel_takes():
    net = Net()
    x = net.input(1, 8)
    w = np.full((4, 8), 1e-8, np.float32)
    y = net.softmax(net.dense(x, 4, weights=w, bias=np.zeros(4), out="logits"), out="y")
    planned = plan_of(net.bytes(y))
    assert planned.grid("logits").scale[0] >= 2**-4 / 256
    assert planned.emit().model.main.outputs[0].name == "y"


def test_a_layer_that_is_narrow_beside_its_weights_keeps_its_multiplier_below_256():
    net = Net()
    x = net.input(1, 4)
    w = np.array([[300.0, -300, 300, -300]], np.float32)
    # The inputs are all alike, so that large weights cancel.
    samples = [{"in0": np.full((1, 4), v, np.float32)} for v in (1.0, 2.0, 3.0)]
    y = net.dense(x, 1, weights=w, bias=np.array([1e-3]), out="y")
    planned = plan_of(net.bytes(y), samples)
    s_in, s_out = planned.grid("in0").scale[0], planned.grid("y").scale[0]
    assert s_in * 300 / 127 / s_out < 256
