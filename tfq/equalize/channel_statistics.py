"""What the channels of activations are on samples: extremes, power, and how often they are 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq.equalize.channels import ChannelGroup
from tfq.graph.model import Graph, Tensor
from tfq.runtime import Runner

Inputs = Mapping[str, np.ndarray]


@dataclasses.dataclass
class ChannelStatistics:
    """What the channels of one tensor were; float64 [channels of its group]."""

    low: np.ndarray
    high: np.ndarray
    square: np.ndarray  # the mean of x^2
    active: np.ndarray  # the share of values other than 0, which is the only one never rounded


def measure(
    graph: Graph,
    model: bytes,
    groups: Sequence[ChannelGroup],
    samples: Sequence[Inputs],
    progress: Callable[[int, int], None] | None,
) -> dict[Tensor, ChannelStatistics]:
    """Runs the samples and looks at every tensor that the groups' readers read."""
    runner = Runner(model, keep_intermediates=True)
    index = {t: i for i, t in enumerate(graph.tensors())}
    where = {t: (g, g.tensors[t]) for g in groups for t in (u.data for u in g.readers)}
    seen = {
        t: ChannelStatistics(*(np.zeros(g.size) for _ in dataclasses.fields(ChannelStatistics)))
        for t, (g, _) in where.items()
    }
    for n, sample in enumerate(samples):
        runner.reset_state()
        runner.set_inputs(sample)
        runner.invoke()
        for t, (group, channels) in where.items():
            rows = runner.view(index[t]).reshape(-1, channels.size)
            s = seen[t]
            np.minimum.at(s.low, channels, rows.min(axis=0))
            np.maximum.at(s.high, channels, rows.max(axis=0))
            repeats = channels.size / group.size * len(samples)
            np.add.at(s.square, channels, np.mean(rows * rows, axis=0, dtype=np.float64) / repeats)
            np.add.at(s.active, channels, np.mean(rows != 0, axis=0) / repeats)
            del rows
        if progress is not None:
            progress(n + 1, len(samples))
    return seen
