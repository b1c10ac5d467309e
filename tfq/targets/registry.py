"""The targets by name. Each is imported when it is asked for: some need what others do not."""

from __future__ import annotations

import importlib
import os
import sys

from tfq.errors import UsageError, unknown_option
from tfq.targets.target import Target

# Name before the colon -> module with `make(rest) -> Target`, and the help of one line.
_TARGETS: dict[str, tuple[str, str]] = {
    "cpu": ("tfq.targets.cpu", "this host's processor"),
}

# How users name a target of their own.
OWN = "package.module:TARGET"


def known_targets() -> dict[str, str]:
    """Name -> what it is, in one line."""
    return {name: text for name, (_, text) in _TARGETS.items()}


def get_target(target: str | Target) -> Target:
    """The target of that name, or of a user's own: `package.module:TARGET`,
    imported with the current folder on the path.

    Raises:
      UsageError: there is none, or it is not one.
    """
    if isinstance(target, Target):
        return target
    name, _, rest = str(target).partition(":")
    if name in _TARGETS:
        made: Target = importlib.import_module(_TARGETS[name][0]).make(rest)
        return made
    if not rest.isidentifier():
        raise unknown_option("target", target, [*_TARGETS, OWN])
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(name), rest, None)
    except ImportError as e:
        if isinstance(e, ModuleNotFoundError) and e.name == name and "." not in name:
            raise unknown_option("target", target, [*_TARGETS, OWN]) from None
        raise UsageError(
            f"Cannot import {name!r} for the target {target!r}: {e}. Put its folder on PYTHONPATH."
        ) from None
    if not isinstance(found, Target):
        raise UsageError(
            f"{target!r} is no target: {rest} must be a tfq.targets.Target. "
            f"Received: {type(found).__name__}."
        )
    return found
