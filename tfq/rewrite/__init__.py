"""Float-level rewrites: what conversion took apart is put together again, what has no integer
kernel is said with ops that have one, and what can be folded is folded.

Each module holds one rewrite; its docstring states the pattern and the algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tfq.errors import unknown_option
from tfq.graph.model import Model
from tfq.rewrite import (
    expand_l2_norm,
    expand_log_softmax,
    expand_prelu,
    expand_squared_difference,
    fold_affine,
    fold_affine_forward,
    fold_constants,
    fold_pad,
    fold_scalars,
    fold_shapes,
    fuse_activation,
    lower_constants,
    merge_duplicates,
    merge_reshapes,
    recover_dense,
    recover_gelu,
    recover_hard_swish,
    recover_l2_norm,
    recover_layer_norm,
    recover_logistic,
    recover_prelu,
    recover_relu,
    recover_rsqrt,
    recover_upsampling,
    recover_variance,
    remove_identity,
    replace_add_n,
    replace_bucketize,
    replace_conv3d,
    replace_conv3d_transpose,
    replace_cumsum,
    replace_div,
    replace_l2_pool,
    replace_lrn,
    replace_neg,
    replace_scatter,
    replace_square,
    replace_transpose,
    replace_truncation,
    sink_moves,
)
from tfq.rewrite.core import Applied, View, copy_model

__all__ = ["REWRITES", "Applied", "rewrite"]

# In the order in which they are tried: fold first, then recognise, then replace, then fuse.
REWRITES: dict[str, Callable[[View], list[Applied]]] = {
    fold_shapes.RULE.name: fold_shapes.RULE.run,
    fold_constants.NAME: fold_constants.run,
    merge_duplicates.NAME: merge_duplicates.run,
    **{
        rule.name: rule.run
        for rule in (
            remove_identity.RULE,
            lower_constants.RULE,
            recover_upsampling.RULE,
            replace_transpose.RULE,
            merge_reshapes.RULE,
            recover_dense.RULE,
            recover_rsqrt.RULE,
            recover_gelu.RULE,
            recover_hard_swish.RULE,
            recover_logistic.RULE,
            recover_relu.RULE,
            recover_prelu.RULE,
            recover_variance.RULE,
            recover_layer_norm.RULE,
            recover_l2_norm.RULE,
            replace_square.RULE,
            replace_neg.RULE,
            replace_add_n.RULE,
            replace_bucketize.RULE,
            replace_conv3d.RULE,
            replace_conv3d_transpose.RULE,
            replace_cumsum.RULE,
            replace_l2_pool.RULE,
            replace_lrn.RULE,
            replace_scatter.RULE,
            replace_truncation.RULE,
            replace_div.RULE,
            sink_moves.RULE,
            fold_scalars.RULE,
            fold_affine.RULE,
            fold_affine_forward.RULE,
            fold_pad.RULE,
            fuse_activation.RULE,
            expand_l2_norm.RULE,
            expand_log_softmax.RULE,
            expand_prelu.RULE,
            expand_squared_difference.RULE,
        )
    },
}

# Rewrites to or from ops whose integer kernel has 8 bits only, by what activations are held in.
_NOT_FOR = {
    "int8": {
        "expand_l2_norm",
        "expand_log_softmax",
        "expand_prelu",
        "expand_squared_difference",
    },
    "int16": {"recover_l2_norm", "recover_prelu"},
}

# Every rule shrinks the graph or moves it towards a normal form, so a few rounds suffice; this
# only bounds the damage of two rules that undo each other.
_ROUNDS = 50


def rewrite(
    model: Model, *, skip: Collection[str] = (), activations: str = "int8", on_grid: bool = False
) -> tuple[Model, tuple[Applied, ...]]:
    """Applies all rewrites to a float model until none applies any more.

    Args:
      model: left as it is.
      skip: names of rewrites to leave out.
      activations: what the model will compute in, "int8" or "int16".
      on_grid: weights are on the grid that training gave each channel, and must stay on one.

    Returns:
      The rewritten copy, computing the same up to float rounding under the same tensor names at
      inputs, outputs and signatures; and what was applied, in order.

    Raises:
      UsageError: `skip` names no rewrite, or `activations` is neither.
    """
    if activations not in _NOT_FOR:
        raise unknown_option("activation type", activations, _NOT_FOR)
    for name in skip:
        if name not in REWRITES:
            raise unknown_option("rewrite", name, REWRITES)
    without = {*skip, *_NOT_FOR[activations]}
    runs = [run for name, run in REWRITES.items() if name not in without]
    result = copy_model(model)
    applied: list[Applied] = []
    for i, graph in enumerate(result.graphs):
        kept = [
            t
            for s in result.signatures
            if s.graph == i
            for t in (*s.inputs.values(), *s.outputs.values())
        ]
        view = View(graph, [*graph.inputs, *kept], on_grid=on_grid)
        for _ in range(_ROUNDS):
            done = [a for run in runs for a in run(view)]
            if not done:
                break
            applied += done
        graph.prune()
    return result, tuple(applied)
