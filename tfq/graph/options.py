"""The table of options that belongs to each op.

A file says with each op which table its options are, and may say a wrong one or none. LiteRT takes
both for a table of nothing but defaults; what looks into the options must find the right fields.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq.errors import ModelError
from tfq.graph.model import DTYPE_NAMES, OP_CODES, enum_names, options_type

# Ops that share a table; the others' is named as they are.
_SHARED = {
    "Pool2DOptions": ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"),
    "ReducerOptions": (
        *("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"),
    ),
    "L2NormOptions": ("L2_NORMALIZATION",),
    "MaximumMinimumOptions": ("MAXIMUM", "MINIMUM"),
    "SequenceRNNOptions": ("UNIDIRECTIONAL_SEQUENCE_RNN",),
    "Conv3DOptions": ("CONV_3D", "CONV_3D_TRANSPOSE"),
}

# Fields that hold one of a few codes.
_CODES: dict[str, dict[int, str]] = {
    "fusedActivationFunction": enum_names(schema.ActivationFunctionType),
    "padding": enum_names(schema.Padding),
    **dict.fromkeys(("inDataType", "outDataType", "outType", "idxOutType"), DTYPE_NAMES),
}


@functools.cache
def _tables() -> dict[str, str]:
    """Op name -> the name of its table, for ops that have one."""
    unions = (schema.BuiltinOptions, schema.BuiltinOptions2)
    names = [name for union in unions for name in enum_names(union).values()]
    alike = {name.upper(): name for name in names}
    own = {op: alike.get(op.replace("_", "") + "OPTIONS", "") for op in OP_CODES}
    shared = {op: table for table, ops in _SHARED.items() for op in ops}
    return {op: table for op, table in (own | shared).items() if table}


def checked_options(op: str, options: Any) -> Any:
    """The options of an op as a file has them, or a table of defaults where it has none.

    Args:
      op: the BuiltinOperator name.
      options: an options object of the schema, or None.

    Raises:
      ModelError: they are those of another op, or hold a code that means nothing.
    """
    table = _tables().get(op)
    if options is None and table is not None:
        fresh = options_type(table)()
        options = fresh if vars(fresh) else None
    found = type(options).__name__.removesuffix("T")
    if options is not None and table is not None and found != table:
        raise ModelError(f"{op} has {found}, which are those of another op; it is damaged.")
    for field, known in _CODES.items():
        code = getattr(options, field, None)
        if isinstance(code, int | np.integer) and code not in known:
            raise ModelError(f"{op} has the unknown {field} {code}; it is damaged.")
    return options
