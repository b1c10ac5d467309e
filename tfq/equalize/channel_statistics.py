"""What the channels of groups are on samples: extremes, power, and how often they are 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq.equalize.channels import ChannelGroup
from tfq.graph.model import Tensor
from tfq.observe.channels import ChannelObserver, ChannelStatistics
from tfq.observe.loop import observe
from tfq.observe.observer import Read

Inputs = Mapping[str, np.ndarray]


def measure(
    model: bytes,
    groups: Sequence[ChannelGroup],
    samples: Sequence[Inputs],
    progress: Callable[[int, int], None] | None,
) -> dict[Tensor, ChannelStatistics]:
    """Looks at every tensor that the groups' readers read; the figures of its group's channels.

    The extremes include 0, which is on every grid.
    """
    where = {t: (g, g.tensors[t]) for g in groups for t in (u.data for u in g.readers)}
    seen = {t: ChannelObserver(Read(t.name), c.size) for t, (_, c) in where.items()}
    total = len(samples)
    observe(
        model,
        samples,
        list(seen.values()),
        progress=None if progress is None else lambda count: progress(count, total),
    )
    return {t: _of_group(seen[t].result(), c, g.size) for t, (g, c) in where.items()}


def _of_group(s: ChannelStatistics, channels: np.ndarray, size: int) -> ChannelStatistics:
    """The same where several channels of a tensor are one channel of the group."""
    low, high, *means = (np.zeros(size) for _ in range(5))
    np.minimum.at(low, channels, s.low)
    np.maximum.at(high, channels, s.high)
    for total, mean in zip(means, (s.mean, s.square, s.nonzero), strict=True):
        np.add.at(total, channels, mean / (channels.size / size))
    return ChannelStatistics(low, high, *means)
