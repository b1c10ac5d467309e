"""What a place can hold, as data: conversion makes models that fit it, or says what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Attributes:
    ops: names of the ops that run there (as the schema writes them), or None for all that LiteRT
      has a kernel for.
    activations: types that an op with a grid may compute in.
    weights: types that constant weights may be stored in.
    io: types of the model's inputs and outputs, the target's own choice first.
    versions: op name -> the highest version that is understood there.
    dense_granularity: of the weights of FULLY_CONNECTED, where the user does not say.
    floats: whether ops may compute in float there.
    static_shapes: whether every shape must be known before the model runs.
    memory: bytes that the file and its tensors may take, or None.
    """

    ops: frozenset[str] | None = None
    activations: tuple[str, ...] = ("int8", "int16")
    weights: tuple[str, ...] = ("int8", "int4", "int2")
    io: tuple[str, ...] = ("int8", "uint8", "int16", "float32")
    versions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    dense_granularity: str = "per_channel"
    floats: bool = True
    static_shapes: bool = False
    memory: int | None = None
