"""Models written anew for several samples."""

import numpy as np
import pytest
from layers_by_hand import both
from small_models import Net, cnn, config_of, draw

from tfq.errors import ModelError
from tfq.evaluate.layers import to_batch
from tfq.graph.boundary import InputQuantizer
from tfq.graph.model import Model, options_type
from tfq.runtime import Runner


@pytest.mark.parametrize("scheme", ["float", "int8", "int16x8"])
def test_every_row_is_what_the_model_makes_of_it_alone(scheme):
    floats, quantized = both(cnn(), None if scheme == "float" else config_of(scheme))
    model = floats if scheme == "float" else quantized
    feed = InputQuantizer(Model.from_bytes(model))
    samples = [feed(s) for s in draw(floats, 3)]
    wide = to_batch(model, 3)
    assert {t.shape[0] for t in Model.from_bytes(wide).main.tensors() if not t.is_const} == {3}
    together = Runner(wide).run({n: np.concatenate([s[n] for s in samples]) for n in samples[0]})
    alone = [Runner(model).run(s) for s in samples]
    for name, rows in together.items():
        expected = np.concatenate([a[name] for a in alone])
        np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-6 if scheme == "float" else 0)


def test_a_model_that_mixes_samples_is_refused():
    net = Net()
    x = net.input(1, 4, name="x")
    total = net.op("SUM", x, net.const([0], "int32"), shape=(1, 4), out="y")
    net.ops[-1].options = options_type("ReducerOptions")()
    net.ops[-1].options.keepDims = True
    source = net.bytes(net.op("ADD", total, x, out="z"))
    with pytest.raises(ModelError, match="mixes samples when it takes 2"):
        to_batch(source, 2)


def test_a_model_with_a_batch_of_its_own_is_refused():
    net = Net()
    source = net.bytes(net.dense(net.input(2, 4, name="x"), 3, out="y"))
    with pytest.raises(ModelError, match="not made for 1 sample"):
        to_batch(source, 4)
