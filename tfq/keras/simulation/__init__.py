"""The integer arithmetic of LiteRT's kernels, as a Keras model.

rounding     multiplying by a real number in integers, the five ways of the kernels
windows      exact sums over sliding windows
weighted, arithmetic, softmax, resize, comparisons, moves, tables, boundary    what ops compute
registry     which function computes which op
model        the layers and the model
"""

from tfq.keras.simulation.model import Simulator
from tfq.keras.simulation.simulating import simulate

__all__ = ["Simulator", "simulate"]
