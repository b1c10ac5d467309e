"""Whole channels: which can go, which go together, and which matter least.

A channel is a class of numbers that the trace has tied; a group holds the layers whose channels are
tied to each other's (the convolutions that a residual sum joins). Within a group the channels with
the lowest score go, as many as were asked for, but never the last one of a layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfq.errors import UsageError, unknown_option
from tfq.keras.layers import QuantizedWeights
from tfq.keras.pruning import trace as tracing
from tfq.keras.pruning.masks import round_half_up
from tfq.keras.pruning.trace import Trace

CRITERIA = ("l2", "l1", "bn_gamma")


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Layers whose channels are removed together.

    Attributes:
      layers: names of the layers that make the channels.
      channels: how many there are (channels tied to each other count once).
      removable: how many of them could go.
      reason: why the others must stay; "" where none must.
    """

    layers: tuple[str, ...]
    channels: int
    removable: int
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Group:
    producers: tuple[Any, ...]
    classes: tuple[int, ...]


class ChannelPlan:
    """The groups of one model, and choices among their channels.

    Args:
      model: a Functional or Sequential model of float layers; the trace is taken once, the weights
        are read whenever a choice is made.

    Raises:
      UsageError: another kind of model.
    """

    def __init__(self, model: Any) -> None:
        if any(isinstance(layer, QuantizedWeights) for layer in model._flatten_layers()):
            raise UsageError(
                f"The model {model.name!r} is quantized. Channels are removed before: "
                "remove_channels, then quantize."
            )
        self.trace = Trace(model)
        self._pins = self.trace.pins()
        self._roots = {i: self.trace.roots(n) for i, n in self.trace.makes.items()}
        self._groups = _grouped([p for p in self.trace.layers if makes_channels(p)], self._roots)
        self._names = {id(layer): layer.name for layer in self.trace.layers}

    def groups(self) -> list[ChannelGroup]:
        found = []
        for group in self._groups:
            free = [c for c in group.classes if c not in self._pins]
            reasons = {self._pins[c]: 0 for c in group.classes if c in self._pins}
            names = tuple(p.name for p in group.producers)
            found.append(ChannelGroup(names, len(group.classes), len(free), "; ".join(reasons)))
        return found

    def producers(self) -> list[Any]:
        """The layers that make channels, in order of their first call."""
        return [p for group in self._groups for p in group.producers]

    def choose(
        self, fractions: Mapping[int, float], criterion: str = "l2", progress: float = 1.0
    ) -> set[int]:
        """The channels that go, as roots of the trace.

        Args:
          fractions: id of a layer -> the share of its channels; layers that are left out keep all.
          criterion: "l2" or "l1": root mean square or mean magnitude of the weights that make a
            channel, relative to the layer's mean, averaged over tied layers. "bn_gamma": |gamma| of
            the normalizations behind it; "l2" in groups that have none.
          progress: 0 to 1, the part of the fraction that is due.

        Raises:
          UsageError: tied layers are to lose different shares.
        """
        if criterion not in CRITERIA:
            raise unknown_option("criterion", criterion, CRITERIA)
        gone: set[int] = set()
        for group in self._groups:
            wanted = {fractions.get(id(p), 0.0) for p in group.producers}
            if len(wanted) > 1:
                raise UsageError(
                    "The channels of "
                    + ", ".join(
                        f"{p.name} ({fractions.get(id(p), 0.0):g})" for p in group.producers
                    )
                    + " are tied to each other, and different shares of them are to go. Ask for "
                    "the same share in all of them."
                )
            count = round_half_up(wanted.pop() * len(group.classes) * progress)
            if count:
                gone |= self._lowest(group, count, criterion)
        return gone

    def zeros(self) -> set[int]:
        """Channels that are exactly zero: all that makes them, and all that shifts them after."""
        alive: set[int] = set()
        for layer, variable, axis in self._makers():
            values = np.abs(_values(variable))
            others = tuple(i for i in range(values.ndim) if i != axis)
            alive |= {
                int(r)
                for r, v in zip(self._roots[id(layer)], values.max(axis=others), strict=True)
                if v
            }
        gone: set[int] = set()
        for group in self._groups:
            dead = [c for c in group.classes if c not in alive and c not in self._pins]
            gone |= self._spared(group, dead)
        return gone

    def variables(self, fractions: Mapping[int, float]) -> Iterator[tuple[str, Any]]:
        """(layer name, variable) of all that makes or shifts the channels of these layers."""
        meant = {c for g in self._groups if _asked(g, fractions) for c in g.classes}
        meant -= self._pins.keys()
        seen: set[int] = set()
        for layer, variable, _ in self._makers():
            if id(variable) not in seen and meant & set(self._roots[id(layer)].tolist()):
                seen.add(id(variable))
                suffix = "" if variable.name == "kernel" else f"/{variable.name}"
                yield layer.name + suffix, variable

    def masks(self, fractions: Mapping[int, float], progress: float) -> dict[int, np.ndarray]:
        """id of a variable -> what of it stays (True), so that chosen channels become zero."""
        gone = self.choose(fractions, progress=progress)
        found: dict[int, np.ndarray] = {}
        for layer, variable, axis in self._makers():
            stays = np.array([r not in gone for r in self._roots[id(layer)].tolist()])
            shape = [1] * len(variable.shape)
            shape[axis] = len(stays)
            found[id(variable)] = np.broadcast_to(
                stays.reshape(shape), tuple(variable.shape)
            ).copy()
        return found

    def _makers(self) -> Iterator[tuple[Any, Any, int]]:
        """(layer, trainable variable, its channel axis) of all that makes or shifts channels."""
        for layer in self.trace.layers:
            for variable in layer.weights:
                axes = axes_of(layer).get(variable.name, {})
                moves = variable.name in ("moving_mean", "moving_variance", "alpha")
                for axis, side in axes.items():
                    if side == "out" and not moves:
                        yield layer, variable, axis % len(variable.shape)

    def _lowest(self, group: _Group, count: int, criterion: str) -> set[int]:
        scores = self._scores(group, criterion)
        free = [c for c in group.classes if c not in self._pins]
        # sorted is stable: equal scores go in the order of the channels.
        return self._spared(group, sorted(free, key=lambda c: scores[c]), count)

    def _spared(self, group: _Group, order: Sequence[int], count: int | None = None) -> set[int]:
        """The first `count` of `order` that leave each layer one channel at least."""
        left = {id(p): len(set(self._roots[id(p)].tolist())) for p in group.producers}
        gone: set[int] = set()
        for c in order:
            if count is not None and len(gone) == count:
                break
            owners = [id(p) for p in group.producers if c in self._roots[id(p)]]
            if any(left[o] == 1 for o in owners):
                continue
            gone.add(c)
            for o in owners:
                left[o] -= 1
        return gone

    def _scores(self, group: _Group, criterion: str) -> dict[int, float]:
        found: dict[int, list[float]] = {c: [] for c in group.classes}
        if criterion == "bn_gamma":
            for layer in self.trace.layers:
                if type(layer).__name__ == "BatchNormalization" and layer.scale:
                    gamma = np.abs(_values(layer.gamma))
                    for root, value in zip(self._roots[id(layer)].tolist(), gamma, strict=True):
                        if root in found:
                            found[root].append(float(value))
            if all(found.values()):
                return {c: float(np.mean(v)) for c, v in found.items()}
            found = {c: [] for c in group.classes}
        for producer in group.producers:
            name = "pointwise_kernel" if hasattr(producer, "pointwise_kernel") else "kernel"
            variable = next(v for v in producer.weights if v.name == name)
            axes = axes_of(producer)[name]
            axis = next(a for a, side in axes.items() if side == "out") % len(variable.shape)
            rows = np.moveaxis(_values(variable), axis, 0).reshape(variable.shape[axis], -1)
            norms = np.abs(rows).mean(1) if criterion == "l1" else np.sqrt((rows**2).mean(1))
            mean = float(norms.mean()) or 1.0
            for root, norm in zip(self._roots[id(producer)].tolist(), norms, strict=True):
                found[root].append(float(norm) / mean)
        return {c: float(np.mean(v)) for c, v in found.items()}


def channel_groups(model: keras.Model) -> list[ChannelGroup]:
    """Which layers' channels `remove_channels` would remove together, and which must stay, and why.

    Args:
      model: a Functional or Sequential model.

    Raises:
      UsageError: another kind of model, or a quantized one.
    """
    return ChannelPlan(model).groups()


def axes_of(layer: Any) -> Mapping[str, dict[int, str]]:
    """For each of the layer's weights with channels: axis from the end -> "in", "out" or "mid"."""
    kind = type(layer).__name__
    if kind in tracing.PRODUCERS:
        return tracing.PRODUCERS[kind]
    if kind.startswith("DepthwiseConv"):
        return tracing.DEPTHWISE
    if kind in ("LSTM", "GRU", "SimpleRNN"):
        return tracing.RECURRENT
    return tracing.PER_CHANNEL if kind in ("BatchNormalization", "PReLU") else {}


def makes_channels(layer: Any) -> bool:
    """Whether a layer of Keras's own makes new channels."""
    known = type(layer).__module__.startswith("keras.")
    return known and type(layer).__name__ in tracing.PRODUCERS


def _asked(group: _Group, fractions: Mapping[int, float]) -> bool:
    return any(fractions.get(id(p), 0.0) for p in group.producers)


def _grouped(producers: Sequence[Any], roots: Mapping[int, np.ndarray]) -> list[_Group]:
    """Producers joined where they share a channel; in order of each group's first layer."""
    groups: list[tuple[list[Any], dict[int, None]]] = []
    for producer in producers:
        classes = dict.fromkeys(roots[id(producer)].tolist())
        members = [producer]
        rest = []
        for group in groups:
            if group[1].keys() & classes.keys():
                members, classes = group[0] + members, {**group[1], **classes}
            else:
                rest.append(group)
        groups = [*rest, (members, classes)]
    found = [_Group(tuple(m), tuple(c)) for m, c in groups]
    order = {id(p): i for i, p in enumerate(producers)}
    return sorted(found, key=lambda g: min(order[id(p)] for p in g.producers))


def _values(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value), np.float32)
