"""A model run in a process of its own: what crashes there is an error here."""

import numpy as np
import pytest

from tfq.errors import ModelError
from tfq.graph.model import Graph, Model, Op, Quant, Tensor, options_type
from tfq.runtime import Runner
from tfq.verify.apart import run_apart


def softmax(scale: float) -> bytes:
    options = options_type("SoftmaxOptions")()
    options.beta = 1.0
    x = Tensor("x", (1, 16), "int8", quant=Quant.per_tensor(scale, 3))
    y = Tensor("y", (1, 16), "int8", quant=Quant.per_tensor(1 / 256, -128))
    return Model([Graph("main", [Op("SOFTMAX", [x], [y], options, 2)], [x], [y])]).to_bytes()


X = {"x": np.arange(16, dtype=np.int8)[None]}


def test_outputs_are_those_of_the_same_kernels_here():
    model = softmax(0.1)
    expected = Runner(model, kernels="reference").run(X)
    np.testing.assert_array_equal(run_apart(model, X, kernels="reference")["y"], expected["y"])


def test_an_abort_of_the_kernels_is_an_error():
    with pytest.raises(ModelError, match=r"reference kernels crash on it \(SIGABRT\)"):
        run_apart(softmax(1e-9), X, kernels="reference")


def test_a_refusal_keeps_its_reason():
    with pytest.raises(ModelError, match="refuses the model"):
        run_apart(b"no model", X, kernels="reference")


def test_a_run_that_does_not_end_is_an_error():
    with pytest.raises(ModelError, match=r"do not finish one run in 0\.001 s"):
        run_apart(softmax(0.1), X, kernels="reference", time_limit=0.001)
