"""How many CPU cores there are to use."""

from __future__ import annotations

import os


def available() -> int:
    """The cores that this process may run on: those of its affinity, not of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(workers: int) -> int:
    """CPU threads of an interpreter where so many run at once: more than 4 help few models."""
    return min(4, max(1, available() // workers))
