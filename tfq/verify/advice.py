"""What is said of outputs that collapsed and of parts that starve, with the ways out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from tfq.graph.model import Graph, Op, Tensor
from tfq.graph.origin import makers, moves
from tfq.plan.patterns import short_name
from tfq.plan.scheme import Config
from tfq.verify.meter import FEW_STEPS, OutputError, PartResult
from tfq.verify.proof import Proof
from tfq.verify.starved import StarvedInput

# A rule that names more layers than this is not one to paste: the whole model is meant.
_MOST = 12
_MOST_LABELS = 3
# Outputs as good as this do not need what a concatenation inside of the model lost.
_GOOD_DB = 30.0


class Advice:
    """The warnings of one proof.

    Args:
      proof: what was found.
      graph: the prepared float model's.
      outputs: tensor name -> the output's name.
      layers: tensor name -> the layer it came from.
      config: how the model was made.
      splittable: names of the outputs that come from a concatenation.
    """

    def __init__(
        self,
        proof: Proof,
        graph: Graph,
        outputs: Mapping[str, str],
        layers: Mapping[str, str],
        config: Config,
        splittable: Sequence[str],
    ):
        self.proof, self.graph, self.config = proof, graph, config
        self.outputs, self.layers, self.splittable = outputs, layers, splittable

    def warnings(self) -> list[str]:
        found = []
        if self.proof.collapsed or self._collapsed_parts():
            found.append(self._collapse())
        found += [
            self._part(o.name, p)
            for o in self.proof.outputs
            for p in o.parts
            if p.starved and o.name not in self.proof.collapsed
        ]
        joints: dict[str, list[StarvedInput]] = {}
        for s in filter(self._matters, self.proof.starved):
            joints.setdefault(s.joint, []).append(s)
        return found + [self._inputs(of_one) for of_one in joints.values()]

    def _collapsed_parts(self) -> list[str]:
        return [
            f"{self.outputs.get(o.name, o.name)}{p.part}"
            for o in self.proof.outputs
            for p in o.parts
            if p.collapsed and not p.starved and o.name not in self.proof.collapsed
        ]

    def _collapse(self) -> str:
        worst = [f"{self._label(e.name)} ({e.sqnr_db:.1f} dB)" for e in self.proof.worst_layers[:5]]
        lost = [self.outputs.get(n, n) for n in self.proof.collapsed] + self._collapsed_parts()
        return (
            f"THE OUTPUT COLLAPSED: {', '.join(lost)} no longer follows the float model"
            + (f"; worst tensors: {', '.join(worst)}" if worst else "")
            + "".join(f". {why}" for o in self.proof.outputs if (why := self._why(o)))
            + (
                "."  # Bits do not help beside a mask.
                if any(o.hidden is not None for o in self.proof.outputs)
                else ". Do the samples look like what the model was trained on?"
                + _way_out(self.config)
            )
        )

    def _why(self, o: OutputError) -> str:
        name = self.outputs.get(o.name, o.name)
        if o.name not in self.proof.collapsed:
            return ""
        if o.hidden is not None:
            return (
                f"Values of {name} from {_span(*o.hidden)} are lost on a grid that larger ones "
                "make coarse: mask in the model with a value near to them, as -50, or outside of it"
            )
        if o.constant and o.agreement is not None:
            return f"{name} moves by less than a step, so that its answers cannot be told apart"
        return ""

    def _part(self, tensor: str, p: PartResult) -> str:
        name = self.outputs.get(tensor, tensor)
        assert p.steps is not None
        return (
            f"A PART OF AN OUTPUT IS LOST: {name}{p.part}, {_span(p.low, p.high)}, has "
            f"{_steps(p.steps)} of a grid that larger parts of the output make coarse; "
            f"{max(p.spread_db, -99):.1f} dB of its differences are left. "
            + self._ways(name, [t for t in self.graph.outputs if t.name == tensor], p.steps)
        )

    def _inputs(self, starved: Sequence[StarvedInput]) -> str:
        """Of one concatenation, with the figures of the worst."""
        s = min(starved, key=lambda each: each.spread_db)
        joint = [t for op in self.graph.ops for t in op.outputs if t.name.startswith(s.joint)]
        joint = [t for t in joint if t.name == s.joint] or joint[:1]
        names = [self.outputs.get(n, n) for n in s.moved_to]
        where = f"output {names[0]}" if names else self._label(s.joint)
        if len(starved) == 1:
            which = f"AN INPUT OF A CONCATENATION IS LOST: {self._label(s.tensor)}"
        else:
            labels = list(dict.fromkeys(self._label(each.tensor) for each in starved))
            more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
            which = (
                f"{len(starved)} INPUTS OF A CONCATENATION ARE LOST: "
                f"{', '.join(labels[:_MOST_LABELS])}{more}; the worst, {self._label(s.tensor)}"
            )
        return (
            f"{which}, {_span(s.low, s.high)}, has {_steps(s.steps)} of the grid that {where} "
            f"gives to all its inputs; {max(s.spread_db, -99):.1f} dB of its differences are left. "
            + self._ways(names[0] if names else "", joint, s.steps)
        )

    def _ways(self, output: str, tensors: Sequence[Tensor], steps: float) -> str:
        ways = []
        if output in self.splittable:
            ways.append(f"--split_output={shlex.quote(output)} makes outputs of the parts")
        # 16 bits have 256 steps for one.
        wide = self._wide(tensors, output) if 256 * steps >= FEW_STEPS else ""
        if wide:
            ways.append(f"{wide} gives them 16 bits")
        ways.append(("or " if ways else "") + "scale the parts alike in the model (boxes to 0..1)")
        return f"Ways out: {'; '.join(ways)}."

    def _wide(self, tensors: Sequence[Tensor], output: str) -> str:
        """The flags that compute these tensors in 16 bits, down to the layers that need them."""
        if self.config.scheme.name != "int8":
            return ""
        producers = self.graph.producers()
        ops = [op for t in tensors for op in makers(t, producers) if op is not None]
        ops += [op for t in tensors for op in self._readers(t)]
        names = list(dict.fromkeys(self.layers.get(op.key) or op.key for op in ops))
        if not names:
            return ""
        flag = " --output_type=int16" if output and self.config.output_type is None else ""
        if len(names) > _MOST:
            return f"--scheme=int16x8{flag}"
        exact = "|".join(re.escape(n).replace(",", r"\x2c") for n in names)
        return f"--int16={shlex.quote(f'^({exact})$')}{flag}"

    def _readers(self, t: Tensor) -> Iterable[Op]:
        """What computes with a tensor's values, behind what only moves them."""
        for op, _ in self.graph.consumers().get(t, []):
            if moves(op):
                for out in op.outputs:
                    yield from self._readers(out)
            else:
                yield op

    def _matters(self, s: StarvedInput) -> bool:
        """Whether a starved input is a poor output itself, or one behind it is less than good and
        not told of already."""
        for o in self.proof.outputs:
            if o.name == s.tensor and not s.requantized and _least(o) < _GOOD_DB:
                return True
        for o in self.proof.outputs:
            if o.name not in s.outputs:
                continue
            if o.name in s.moved_to:
                return not any(p.starved for p in o.parts)
            if _least(o) < _GOOD_DB:
                return True
        return False

    def _label(self, tensor: str) -> str:
        return self.layers.get(tensor) or short_name(tensor, {})


def _least(o: OutputError) -> float:
    """The lowest of an output's ratios."""
    figures = [o.sqnr_db, *(p.spread_db for p in o.parts)]
    if o.variation_db is not None and not o.constant:
        figures.append(o.variation_db)
    return min(figures)


def _way_out(config: Config) -> str:
    """What to try when the integers of a scheme are too few."""
    name = config.scheme.name
    if config.weight_bits < 8:
        return (
            " If so, let some layers keep 8-bit weights (--weight_bits=REGEX=8), or train the "
            f"model for {config.weight_bits} bits."
        )
    if name == "int8":
        return " If so, try --scheme=int16x8."
    if name == "int16x8":
        return " If so, keep the worst layers float with --exclude, or try --scheme=dynamic."
    return ""


def _span(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}"


def _steps(steps: float) -> str:
    return f"{steps:.2g} steps"
