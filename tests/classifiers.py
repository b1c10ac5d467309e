"""Float and int8 classifiers, and samples that they are nearly sure about."""

import functools

import numpy as np
from small_models import cnn, draw, plan_of

from tfq.graph.model import Model


@functools.cache
def classifier() -> tuple[bytes, bytes]:
    """A float model with softmax, and its int8 file."""
    source = cnn()
    return source, plan_of(source).emit().model.to_bytes()


@functools.cache
def labelled(count: int = 200, seed: int = 5) -> dict[str, np.ndarray]:
    """Samples with labels: nine of ten are the float model's own answers."""
    from tfq.runtime import Runner

    source, _ = classifier()
    (spec,) = Model.from_bytes(source).main.inputs
    x = np.concatenate([s[spec.name] for s in draw(source, count, seed)])
    runner = Runner(source)
    answers = [next(iter(runner.run({spec.name: v[None]}).values())).argmax() for v in x]
    y = np.array(answers)
    wrong = np.random.default_rng(seed).permutation(count)[: count // 10]
    y[wrong] = (y[wrong] + 1) % 5
    return {"x0": x, "y": y}
