"""The causes, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable

from tfq.evaluate.causes import (
    accumulates,
    bias_error,
    channel_imbalance,
    dead_channels,
    fixed_grid,
    outlier_range,
    saturating,
    shared_scale,
    silenced_channels,
    starved_part,
    too_few_bits,
    unscaled_input,
    weights_too_coarse,
)
from tfq.evaluate.causes.finding import Claim
from tfq.evaluate.causes.view import View
from tfq.evaluate.figures import TensorFigures

# Each looks at one tensor, and knows nothing of the others.
SPECIFIC: tuple[Callable[[View, TensorFigures], Claim | None], ...] = (
    saturating.find,
    starved_part.find,
    shared_scale.find,
    fixed_grid.find,
    outlier_range.find,
    channel_imbalance.find,
    silenced_channels.find,
    weights_too_coarse.find,
    bias_error.find,
    dead_channels.find,
)

CAUSES: tuple[str, ...] = (
    unscaled_input.NAME,
    saturating.NAME,
    starved_part.NAME,
    shared_scale.NAME,
    fixed_grid.NAME,
    outlier_range.NAME,
    channel_imbalance.NAME,
    silenced_channels.NAME,
    weights_too_coarse.NAME,
    bias_error.NAME,
    dead_channels.NAME,
    too_few_bits.NAME,
    accumulates.NAME,
)
