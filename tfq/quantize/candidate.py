"""One way to quantize a model, complete: what it was made of, its plan, and the model itself."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfq.calibrate.statistics import Statistics
from tfq.graph.numerics import quantize
from tfq.graph.optable import spec
from tfq.plan.float_schemes import plan_float
from tfq.plan.layout import Layout, make_layout
from tfq.plan.plan import Plan
from tfq.plan.planner import make_plan
from tfq.plan.scheme import Config
from tfq.quantize.emit import Emitted, emit
from tfq.rewrite.prepare import Prepared


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A quantized model and all that decides it. Nothing changes one: what differs is another.

    Attributes:
      prepared: the float model.
      layout: kernels, and which tensors share a grid; None where nothing computes in integers.
      statistics: of the float model's tensors; None where none were needed.
      config: the choices that the plan was made with.
      plan: every grid.
      emitted: the model.
    """

    prepared: Prepared
    layout: Layout | None
    statistics: Statistics | None
    config: Config
    plan: Plan
    emitted: Emitted

    @functools.cached_property
    def bytes(self) -> bytes:
        """The emitted model as a file."""
        return self.emitted.model.to_bytes()

    def replanned(self, plan: Plan) -> Candidate:
        """The same with another plan, such as one with corrected biases."""
        return dataclasses.replace(self, plan=plan, emitted=emit(self.prepared.model, plan))

    def reconfigured(self, config: Config, layout: Layout | None = None) -> Candidate:
        """The same with other choices for layers or tensors.

        Corrected biases keep their real values, on the new grids. Chosen roundings are of the old
        grids, and are left behind.

        Args:
          config: the choices.
          layout: where it stays what it was; None: it is made anew.

        Raises:
          TfqError: an op has no kernel for what is chosen, or a tensor no statistics.
        """
        if layout is None and self.layout is not None:
            layout = lay_out(self.prepared, config)
        made = build(self.prepared, layout, self.statistics, config)
        biases = _on_other_grids(self.plan, made.plan)
        return made.replanned(dataclasses.replace(made.plan, biases=biases)) if biases else made


def lay_out(prepared: Prepared, config: Config) -> Layout:
    """Kernels, dtypes and shared grids of a prepared model; see `tfq.plan.layout`."""
    grids, left = prepared.trained.grids, dict(prepared.left)
    return make_layout(prepared.model.main, config, grids, left)


def build(
    prepared: Prepared, layout: Layout | None, statistics: Statistics | None, config: Config
) -> Candidate:
    """Plans and emits.

    Args:
      prepared: the float model.
      layout: from `lay_out` with the same model and choices of types; None for schemes that
        compute in float.
      statistics: of all that `layout` observes; None where it observes nothing.
      config: all choices.

    Raises:
      TfqError: a tensor lacks statistics.
    """
    graph, sha = prepared.model.main, prepared.sha256
    if layout is None:
        plan = plan_float(graph, config, model_sha256=sha)
    else:
        grids = prepared.trained.grids
        plan = make_plan(graph, layout, statistics, config, grids, model_sha256=sha)
    plan = dataclasses.replace(
        plan,
        relaxed=prepared.relaxed,
        equalization=prepared.equalization,
        absorbed=prepared.absorbed,
    )
    return Candidate(prepared, layout, statistics, config, plan, emit(prepared.model, plan))


def _on_other_grids(old: Plan, new: Plan) -> dict[str, np.ndarray]:
    """The corrected biases of a plan as integers on the grids that another has for them."""
    moved = {}
    for name, bias in old.biases.items():
        row = spec(old.ops[name].op)
        was, now = ((p.ops[name].edges if name in p.ops else {}) for p in (old, new))
        if row is None or row.bias is None or row.bias not in was or row.bias not in now:
            continue
        grid = now[row.bias]
        if grid.is_integer:
            real = bias.astype(np.float64) * np.array(was[row.bias].scale)
            moved[name] = quantize(real, grid)
    return moved
