"""The cost of each op, from a profile: XNNPACK's operators are put to the ops they come from."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Sequence, Set
from typing import Any

from tfq.children import environment, lifeline
from tfq.errors import TfqError
from tfq.graph.model import Model
from tfq.targets.cpu.process import Process
from tfq.targets.cpu.profiler import BUILT_IN, VERSION
from tfq.targets.measurement import Asked, Evidence, Figure, OpCost
from tfq.targets.placement import Placement

_BATCHES = 10
_SECONDS = 3.0  # That the batches may take.

# What XNNPACK calls the operators of ops that it calls otherwise.
_CALLED = {
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average Pooling"),
    "BATCH_MATMUL": ("Batch Matrix Multiply", "Fully Connected"),
    "CONV_2D": ("Convolution", "Fully Connected"),  # Of size 1, without padding.
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "DEQUANTIZE": ("Convert",),
    "HARD_SWISH": ("Hardswish", "HardSwish"),
    "LOGISTIC": ("Sigmoid",),
    "MAX_POOL_2D": ("Max Pooling",),
    "MEAN": ("Mean", "Global Average Pooling"),
    "PAD": ("Constant Pad",),
    "QUANTIZE": ("Convert",),
    "RELU": ("Clamp",),
    "RELU6": ("Clamp",),
    "RESHAPE": ("Static Reshape", "Copy"),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "TRANSPOSE_CONV": ("Deconvolution",),
}
# Operators that an op may have beside its own.
_BESIDE = ("Static Reshape", "Copy", "Clamp")  # The last is a fused activation.
# Of constants, these are done once when the model is loaded.
_ONCE = ("DEQUANTIZE", "DENSIFY")
# Where the ops' times are less of the whole than this, most of them are below what is counted.
_LEAST_SHARE = 0.5


def op_costs(
    process: Process,
    inputs: Sequence[str],
    placement: Placement,
    model: Model,
    asked: Asked,
    steady: float,
) -> tuple[OpCost, ...]:
    """Measures a model's ops in another process.

    Args:
      process: where it runs; its file is taken.
      inputs: files of raw values.
      placement: of the model.
      model: parsed.
      asked: threads, kernels, time limit.
      steady: microseconds of a whole run, with which the sum has to agree.

    Raises:
      TfqError: LiteRT is not of the version whose profiler can be read, does not take the model
        there, or its process fails; or the ops are too short for it. It counts whole
        microseconds, rounded down.
    """
    version = importlib.metadata.version("ai-edge-litert")
    if not version.startswith(VERSION):
        raise TfqError(
            f"LiteRT's profiler can be read of ai-edge-litert {VERSION}*, and this is {version}."
        )
    if len(model.graphs) > 1:
        raise TfqError("the profile of a model with several graphs does not say whose an op is.")
    found = _profile(process, inputs, asked)
    keys = [(kind, tag, number) for kind, tag, number in found["events"]]
    once = {i for i, op in enumerate(model.main.ops) if op.name in _ONCE and op.input(0).is_const}
    owners = owners_of(keys, placement, once)
    columns = list(zip(*found["us"], strict=True))
    costs: list[OpCost] = []
    taken: dict[int, list[int]] = {}
    for at, owner in enumerate(owners):
        if owner is not None:
            taken.setdefault(owner, []).append(at)
    for at, (owner, (_, tag, _)) in enumerate(zip(owners, keys, strict=True)):
        if owner is None:
            costs.append(OpCost(None, tag, "", Figure.of(columns[at], "us", Evidence.HOST)))
        elif taken[owner][0] == at:
            values = [sum(batch[i] for i in taken[owner]) for batch in found["us"]]
            op = placement.ops[owner]
            cost = Figure.of(values, "us", Evidence.HOST)
            costs.append(OpCost(owner, op.op, op.output, cost))
    if sum(c.cost.median for c in costs) < _LEAST_SHARE * steady:
        raise TfqError("LiteRT's profiler counts whole microseconds, and most ops are shorter.")
    return tuple(costs)


def _profile(process: Process, inputs: Sequence[str], asked: Asked) -> dict[str, Any]:
    request = {
        "model": str(process.model),
        "inputs": list(inputs),
        "threads": asked.threads,
        "kernels": asked.kernels,
        "batches": _BATCHES,
        "seconds": _SECONDS,
    }
    with lifeline() as life:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tfq.targets.cpu.profiler", json.dumps(request)],
                stdin=life,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=asked.timeout + _SECONDS,
                env=environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TfqError(f"the profile is not done within {asked.timeout:g} s.") from None
    if done.returncode or not done.stdout:
        raise TfqError(f"LiteRT's profiler ended its process (exit code {done.returncode}).")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise TfqError(f"LiteRT's profiler does not take the model: {answer['error']}.")
    return answer


def owners_of(
    events: Sequence[tuple[int, str, int]], placement: Placement, once: Set[int] = frozenset()
) -> list[int | None]:
    """For each event of a run the index of the op that it belongs to, or None.

    XNNPACK counts its operators anew in each partition, in the order of the ops, but most ops
    become one of them and some become several. So the operators of a partition are gone through
    together with its ops, by name; where they do not come out even, it is not said whose they are.

    Args:
      events: kind, tag and number of each op that ran, in that order.
      placement: of the model.
      once: indices of ops that have no operator.
    """
    owners: list[int | None] = [None] * len(events)
    stretches: list[list[int]] = []
    previous: int | None = None  # The number of the operator before, in the same stretch.
    for at, (kind, tag, number) in enumerate(events):
        if kind == BUILT_IN:
            known = number < len(placement.ops) and placement.ops[number].op == tag
            owners[at] = number if known else None
            previous = None
            continue
        if previous is None or number <= previous:
            stretches.append([])
        stretches[-1].append(at)
        previous = number
    if len(stretches) != placement.partitions:
        return owners
    for partition, stretch in enumerate(stretches):
        ops = [
            op.index for op in placement.ops if op.partition == partition and op.index not in once
        ]
        names = [placement.ops[i].op for i in ops]
        for at, which in zip(stretch, _align([events[i][1] for i in stretch], names), strict=True):
            owners[at] = None if which is None else ops[which]
    return owners


def _align(tags: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """For each operator of XNNPACK the position of its op, or None of all."""
    found: list[int | None] = []
    current = -1
    for tag in tags:
        if current + 1 < len(names) and _is(tag, names[current + 1]):
            current += 1
        elif current < 0 or not tag.startswith(_BESIDE):
            return [None] * len(tags)
        found.append(current)
    return found if current + 1 == len(names) else [None] * len(tags)


def _is(tag: str, name: str) -> bool:
    called = _CALLED.get(name, (name.removesuffix("_V2").replace("_", " "),))
    return tag.lower().startswith(tuple(c.lower() for c in called))
