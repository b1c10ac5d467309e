"""What went wrong inside TensorFlow, in a sentence, from its exceptions and its log."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

_LIMIT = 600


def root_cause(error: BaseException) -> str:
    """The first exception's message: the end of the chain of causes, without its traceback."""
    seen = {id(error)}
    while True:
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        error = cause
    text = str(error).strip()
    message = converter_cause(text) or first_lines(text)
    return message if message else type(error).__name__


def converter_cause(text: str) -> str:
    """The errors in a message or log of the converter: each distinct one, without locations."""
    found: list[str] = []
    for line in text.splitlines():
        if "error: " not in line:
            continue
        message = line.split("error: ", 1)[1].strip()
        if message.startswith("loc("):
            message = message.rsplit("): ", 1)[-1]
        if message and message not in found and not message.startswith("failed while converting"):
            found.append(message)
    ops = re.search(r"^\s*(TF Select|Custom) ops: (.+)$", text, re.M)
    if ops:
        found.insert(0, f"these ops have no TFLite form: {ops.group(2).strip()}")
    return shorten("; ".join(found[:3]))


def first_lines(text: str) -> str:
    """The lines of a message up to the first blank one, code excerpts and call stacks dropped."""
    lines: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            if lines:
                break
            continue
        if stripped.startswith(("File ", "^", "Traceback", "Call stack", "Stack trace")):
            continue
        if re.match(r"^(in user code:|Detected at node .* defined at)", stripped):
            continue
        stripped, cut, _ = stripped.partition("Full object config:")  # Keras: pages of JSON.
        lines.append(stripped.strip())
        if cut:
            break
    return shorten(" ".join(lines))


def signal_name(code: int) -> str:
    """ "SIGSEGV" for the return code -11 of a process."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def last_errors(log: str) -> str:
    """What a process that died said last that reads like an error."""
    errors = converter_cause(log)
    if errors:
        return errors
    marked = [
        x for x in log.splitlines() if re.search(r"(Check failed|LLVM ERROR|[A-Z]\w+Error:)", x)
    ]
    return shorten(marked[-1].strip()) if marked else ""


def shorten(text: str) -> str:
    """At most 600 characters of `text`."""
    return text if len(text) <= _LIMIT else text[: _LIMIT - 3] + "..."


def listed(names: Iterable[str]) -> str:
    """Names for a message: quoted, comma-separated."""
    return ", ".join(repr(n) for n in names)


def places(found: Iterable[str]) -> str:
    """What was found, each once, for a message: the first four, and how many more."""
    distinct = list(dict.fromkeys(found))
    more = f"; and {len(distinct) - 4} more" if len(distinct) > 4 else ""
    return "; ".join(distinct[:4]) + more
