"""Layer, group, instance and RMS normalisation are brought to one form.

    x s + (beta - m s),  s = gamma r   ->   (x - m) r gamma + beta
    x (r gamma)                        ->   (x r) gamma

where r = RSQRT(v + eps) and m = MEAN(x). The left side is how Keras and tf.nn write it. It cancels
two large numbers, which 8-bit tensors cannot; and on the right the centred x - m is the one that
the variance MEAN((x - m)^2) already needs. gamma and beta may be absent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfq.graph.model import Op, Tensor
from tfq.rewrite.core import No, Rule, View, new_op
from tfq.rewrite.match import activation, is_float, scalar


@dataclasses.dataclass(frozen=True)
class _Product:
    """A signed product of tensors."""

    sign: int
    factors: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True)
class _Match:
    op: Op
    x: Tensor
    mean: Tensor | None
    rsqrt: Tensor
    gammas: tuple[Tensor, ...]
    beta: tuple[int, Tensor] | None


def _atomic(tensor: Tensor, view: View) -> bool:
    """Whether a product is an operand in its own right: something takes its mean."""
    return any(r.name == "MEAN" for r in view.readers(tensor))


def _product(tensor: Tensor, view: View, sign: int = 1) -> _Product:
    op = view.made_by(tensor, "MUL", "NEG")
    if op is None or activation(op) or _atomic(tensor, view):
        return _Product(sign, (tensor,))
    if op.name == "NEG":
        return _product(op.input(0), view, -sign)
    if scalar(op.input(1)) == -1:
        return _product(op.input(0), view, -sign)
    left = _product(op.input(0), view, sign)
    right = _product(op.input(1), view)
    return _Product(left.sign * right.sign, left.factors + right.factors)


def _terms(tensor: Tensor, view: View, sign: int = 1, *, top: bool = False) -> Iterator[_Product]:
    op = view.made_by(tensor, "ADD", "SUB")
    if op is None or (not top and (activation(op) or not view.private(tensor))):
        found = _product(tensor, view, sign)
        yield found
        return
    yield from _terms(op.input(0), view, sign)
    yield from _terms(op.input(1), view, -sign if op.name == "SUB" else sign)


def _scales(factors: list[Tensor], view: View) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """(r, gammas) if the factors are one RSQRT and constants."""
    roots = [t for t in factors if view.made_by(t, "RSQRT")]
    rest = [t for t in factors if not view.made_by(t, "RSQRT")]
    if len(roots) != 1 or not all(t.is_const for t in rest):
        return None
    return roots[0], tuple(rest)


def check(op: Op, view: View) -> _Match | No:
    out = op.outputs[0]
    if not is_float(out):
        return No("not of floats")
    if op.name == "MUL":
        return _check_product(op, view)
    terms = list(_terms(out, view, top=True))
    constants = [t for t in terms if len(t.factors) == 1 and t.factors[0].is_const]
    products = [t for t in terms if t not in constants]
    if len(products) != 2 or len(constants) > 1:
        return No("not two products and a constant")
    for a, b in (products, products[::-1]):
        for mean in b.factors:
            maker = view.made_by(mean, "MEAN")
            if maker is None or maker.input(0) not in a.factors:
                continue
            x = maker.input(0)
            rest_a, rest_b = list(a.factors), list(b.factors)
            rest_a.remove(x)
            rest_b.remove(mean)
            if a.sign != 1 or b.sign != -1 or set(rest_a) != set(rest_b):
                return No("x and its mean are not scaled alike with opposite signs")
            scales = _scales(rest_a, view)
            if scales is None or x.shape != out.shape:
                return No("the scale is not one RSQRT and constants")
            beta = (constants[0].sign, constants[0].factors[0]) if constants else None
            return _Match(op, x, mean, *scales, beta)
    return No("no product with the mean of what the other one holds")


def _check_product(op: Op, view: View) -> _Match | No:
    """x * (r * gamma), in either order."""
    if activation(op):
        return No("it has a fused activation")
    for x, s in ((op.input(0), op.input(1)), (op.input(1), op.input(0))):
        inner = view.made_by(s, "MUL")
        if inner is None or x.is_const or activation(inner) or x.shape != op.outputs[0].shape:
            continue
        scales = _scales([inner.input(0), inner.input(1)], view)
        if scales is None or len(scales[1]) != 1 or not view.private(s):
            continue
        return _Match(op, x, None, *scales, None)
    return No("it does not multiply by an RSQRT and a constant")


def apply(m: _Match, view: View) -> None:
    out = m.op.outputs[0]
    name, shape = out.name, out.shape
    ops: list[Op] = []

    def step(op_name: str, a: Tensor, b: Tensor, hint: str) -> Tensor:
        made = view.tensor(f"{name}/{hint}", shape)
        ops.append(new_op(op_name, [a, b], made, f"{op_name.capitalize()}Options"))
        return made

    y = m.x if m.mean is None else step("SUB", m.x, m.mean, "centred")
    y = step("MUL", y, m.rsqrt, "normalised")
    for gamma in m.gammas:
        y = step("MUL", y, gamma, "scaled")
    if m.beta is not None:
        sign, beta = m.beta
        if sign < 0:
            beta = view.const(f"{name}/beta", -np.asarray(beta.values()))
        y = step("ADD", y, beta, "shifted")
    ops[-1].outputs = [out]
    ops[-1].options.fusedActivationFunction = activation(m.op)
    view.replace(m.op, ops)


RULE = Rule(
    name="recover_layer_norm", roots=frozenset({"ADD", "SUB", "MUL"}), check=check, apply=apply
)
