"""Quantizers of quantization-aware training: Keras layers, by name or as objects."""

from __future__ import annotations

from tfq.keras.quantizers.base import ActivationQuantizer, Quantizer, WeightQuantizer
from tfq.keras.quantizers.binary import Binary
from tfq.keras.quantizers.fixed import Fixed
from tfq.keras.quantizers.lookup import (
    ACTIVATION_QUANTIZERS,
    WEIGHT_QUANTIZERS,
    get_activation_quantizer,
    get_weight_quantizer,
)
from tfq.keras.quantizers.lsq import LSQ, LSQWeights
from tfq.keras.quantizers.mean_deviation import MeanDeviation
from tfq.keras.quantizers.minmax_weights import MinMaxWeights, MSEWeights
from tfq.keras.quantizers.observers import MSE, MinMax, MovingAverage, Percentile
from tfq.keras.quantizers.pact import PACT
from tfq.keras.quantizers.phases import check_ranges, quantizers_of, set_phase
from tfq.keras.quantizers.ternary import Ternary

__all__ = [
    "ACTIVATION_QUANTIZERS",
    "LSQ",
    "MSE",
    "PACT",
    "WEIGHT_QUANTIZERS",
    "ActivationQuantizer",
    "Binary",
    "Fixed",
    "LSQWeights",
    "MSEWeights",
    "MeanDeviation",
    "MinMax",
    "MinMaxWeights",
    "MovingAverage",
    "Percentile",
    "Quantizer",
    "Ternary",
    "WeightQuantizer",
    "check_ranges",
    "get_activation_quantizer",
    "get_weight_quantizer",
    "quantizers_of",
    "set_phase",
]
