"""The errors a user sees: what failed, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TfqError(Exception):
    """The model or the data cannot do what was asked (exit code 1).

    A message is up to three sentences: what failed, where (tensor, op, Keras layer, sample), and
    the way out. Commands print it as one error without a traceback.
    """

    exit_code = 1


class UsageError(TfqError, ValueError):
    """The command or call itself was wrong: an unknown option, a missing path (exit code 2)."""

    exit_code = 2


class ModelError(TfqError):
    """A model file is damaged, or holds something that cannot be converted."""


class DataError(TfqError):
    """Representative or labelled data does not fit the model."""


def nearest(received: object, options: Iterable[str]) -> str:
    """Returns ``" Did you mean 'x'?"`` for the option closest to `received`, or ``""``."""
    close = difflib.get_close_matches(str(received), list(options), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_option(what: str, received: object, options: Iterable[str]) -> UsageError:
    """The error for a value that is none of `options`, naming all of them and the nearest."""
    names = list(options)
    return UsageError(
        f"Unknown {what} {received!r}. Choose one of: {', '.join(names)}.{nearest(received, names)}"
    )
