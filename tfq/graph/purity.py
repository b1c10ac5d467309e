"""Which ops may be computed early, twice, or once for two."""

from __future__ import annotations

from tfq.graph.model import Op

# Results that are not a function of the inputs alone.
_STATEFUL = frozenset(
    {
        "ASSIGN_VARIABLE",
        "CALL",
        "CALL_ONCE",
        "CUSTOM",
        "DELEGATE",
        "HASHTABLE",
        "HASHTABLE_FIND",
        "HASHTABLE_IMPORT",
        "HASHTABLE_LOOKUP",
        "HASHTABLE_SIZE",
        "IF",
        "MULTINOMIAL",
        "RANDOM_STANDARD_NORMAL",
        "RANDOM_UNIFORM",
        "READ_VARIABLE",
        "VAR_HANDLE",
        "WHILE",
    }
)

# They carry ranges that training wrote into a graph, which mean something only where they stand.
_QUANTIZERS = frozenset({"QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"})


def is_pure(op: Op) -> bool:
    """Whether the op gives the same outputs for the same inputs, touches nothing else, and means
    nothing more. DEQUANTIZE of float16 is only a way to store weights in half the space.
    """
    if op.name == "DEQUANTIZE" and op.input(0).dtype == "float16":
        return True
    return op.name not in _STATEFUL | _QUANTIZERS and not any(
        t is not None and (t.is_variable or t.dtype in ("resource", "variant")) for t in op.inputs
    )
