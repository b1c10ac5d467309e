"""Cross-layer equalization: the channels of an activation are brought to like ranges.

A positive scale per channel passes through ReLU, pooling and the like, so it can be taken from the
layer behind an activation and given to the layer before it. The function stays; what changes is how
well one 8-bit grid for the whole activation fits each of its channels (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1; Xiao et al.
2023, "SmoothQuant", for the balance between activations and the weights behind them).
"""

from tfq.equalize.channels import ChannelGroup, find_groups
from tfq.equalize.rescale import (
    read_scales,
    rescale,
    rescale_prepared,
    shown_tensors,
    write_scales,
)
from tfq.equalize.scales import Choice, choose_scales, imbalances

__all__ = [
    "ChannelGroup",
    "Choice",
    "choose_scales",
    "find_groups",
    "imbalances",
    "read_scales",
    "rescale",
    "rescale_prepared",
    "shown_tensors",
    "write_scales",
]
