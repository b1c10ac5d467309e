"""An integer model walked layer by layer, all samples at once, with the float model beside it."""

from tfq.walk.bias import BiasCorrection, correct_biases, solve_biases
from tfq.walk.layer import Layer
from tfq.walk.obstacles import obstacle_to_walk
from tfq.walk.walk import Walk
from tfq.walk.weight_scales import solve_weight_scales

__all__ = [
    "BiasCorrection",
    "Layer",
    "Walk",
    "correct_biases",
    "obstacle_to_walk",
    "solve_biases",
    "solve_weight_scales",
]
