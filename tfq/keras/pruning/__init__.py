"""Pruning: zeros that grow during training and stay, channels that go, and what it brought."""

from tfq.keras.pruning.callback import Pruning, keep_sparsity, prune
from tfq.keras.pruning.channels import ChannelGroup, channel_groups
from tfq.keras.pruning.removal import remove_channels
from tfq.keras.pruning.report import PruningReport, pruning_report
from tfq.keras.pruning.schedules import ConstantSparsity, PolynomialDecay

__all__ = [
    "ChannelGroup",
    "ConstantSparsity",
    "PolynomialDecay",
    "Pruning",
    "PruningReport",
    "channel_groups",
    "keep_sparsity",
    "prune",
    "pruning_report",
    "remove_channels",
]
