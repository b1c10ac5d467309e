"""Cross-layer equalization: the channels of an activation are brought to like ranges.

A positive scale per channel passes through ReLU, pooling and the like, so it can be taken from the
layer behind an activation and given to the layer before it. The function stays; what changes is how
well one 8-bit grid for the whole activation fits each of its channels (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1; Xiao et al.
2023, "SmoothQuant", for the balance between activations and the weights behind them).
"""

from tfq.equalize.absorb import absorb, absorb_prepared, find_amounts
from tfq.equalize.changes import (
    Changes,
    has_changes,
    read_changes,
    unchanged,
    with_changes,
    write_changes,
)
from tfq.equalize.channels import ChannelGroup, find_groups
from tfq.equalize.relax import never_capped, relax, relax_prepared
from tfq.equalize.rescale import (
    rescale,
    rescale_prepared,
    shown_tensors,
)
from tfq.equalize.scales import Choice, choose_scales, imbalances

__all__ = [
    "Changes",
    "ChannelGroup",
    "Choice",
    "absorb",
    "absorb_prepared",
    "choose_scales",
    "find_amounts",
    "find_groups",
    "has_changes",
    "imbalances",
    "never_capped",
    "read_changes",
    "relax",
    "relax_prepared",
    "rescale",
    "rescale_prepared",
    "shown_tensors",
    "unchanged",
    "with_changes",
    "write_changes",
]
