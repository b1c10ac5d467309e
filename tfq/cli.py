"""What every `tfq` command shares: flags, help, errors as exit codes, progress.

A command is a module with its flags, a `main(argv) -> exit code`, and a `Command` that ties them:

    from absl import flags
    from tfq import cli

    FLAGS = flags.FlagValues()  # The command's own: two commands may both have an --output.
    _SCHEME = flags.DEFINE_string("scheme", "int8", "int8, int16x8, ...", flag_values=FLAGS)

    def _run(args: list[str]) -> int:  # args: what is left after the flags.
        with cli.Progress() as progress:
            progress("Calibrating", 3, 200)  # stage, done, total (None: unknown)
        cli.say(f"scheme {_SCHEME.value}")
        return 0

    COMMAND = cli.Command("convert", "SOURCE", "Converts a model.", FLAGS, _run)

    def main(argv: list[str] | None = None) -> int:  # argv: without the program's name.
        return cli.run(COMMAND, argv)

    if __name__ == "__main__":
        raise SystemExit(main())

`run` never lets a user's mistake become a traceback: a `TfqError` is printed as one error and
becomes its exit code (1 the model or data cannot do it, 2 the command was wrong, 130 Ctrl-C). Any
other exception is a defect of tfq and keeps its traceback. Outputs are written with `write_atomic`;
`check_output` says before the work starts whether they can be.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from absl import flags

from tfq.errors import TfqError, UsageError, nearest, unknown_option
from tfq.files import check_output, explain, write_atomic
from tfq.temporary import sweep

__all__ = ["Command", "Progress", "check_output", "help_text", "run", "say", "write_atomic"]

_WIDTH = 80
_HELP_COLUMN = 27
_LOG_SECONDS = 30.0
_REPEATABLE = "; repeat this option to specify a list of values"  # absl adds it to every list.


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
      name: as in ``tfq NAME`` and ``python -m tfq.NAME``.
      arguments: the positional arguments as help shows them ("SOURCE"). Their number is checked:
        one word each; a last word ending in "..." takes any number.
      summary: one or two sentences on what it does.
      flags: its flags; help lists them in the order of their definition.
      run: takes the positional arguments, returns the exit code.
      examples: lines shown under the flags.
    """

    name: str
    arguments: str
    summary: str
    flags: flags.FlagValues
    run: Callable[[list[str]], int]
    examples: tuple[str, ...] = ()


def run(command: Command, argv: Sequence[str] | None = None) -> int:
    """Parses `argv` (default: the process's arguments), runs the command, returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if any(a in ("--help", "-h", "-help", "--helpfull", "-?") for a in _before_dashes(argv)):
            say(help_text(command))
            return 0
        sweep()
        return command.run(_parse(command, argv))
    except TfqError as e:
        _complain(str(e))
        if isinstance(e, UsageError):
            sys.stderr.write(f"See: tfq {command.name} --help\n")
        return e.exit_code
    except KeyboardInterrupt:
        _complain("interrupted.")
        return 130
    except BrokenPipeError:  # `tfq inspect x | head`: the reader has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        _complain("out of memory. Use a smaller model or batch, or a machine with more memory.")
        return 1
    except OSError as e:
        if e.filename is None and e.errno is None:
            raise  # Raised by a library without a system call behind it: not the user's.
        _complain(f"{e.filename or 'input/output'}: {explain(e)}")
        return 1


def say(text: str) -> None:
    """Writes a line of a command's result to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")


# --- flags --------------------------------------------------------------------------------------


def _before_dashes(argv: list[str]) -> list[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _parse(command: Command, argv: list[str]) -> list[str]:
    values = command.flags
    values.set_gnu_getopt(True)  # Flags may follow the positional arguments.
    values.unparse_flags()
    for flag in _ordered(values):  # A second run in one process starts from the defaults.
        flag.unparse()
    try:
        args: list[str] = values([f"tfq {command.name}", *argv])[1:]
    except flags.UnrecognizedFlagError as e:
        names = [f"--{f.name}" for f in _ordered(values)]
        hint = nearest(f"--{e.flagname.lstrip('-')}", names)
        raise UsageError(f"Unknown flag --{e.flagname}.{hint}") from None
    except flags.IllegalFlagValueError as e:
        raise _illegal_value(values, str(e)) from None
    except flags.Error as e:
        raise UsageError(f"{e}.") from None
    wanted = command.arguments.split()
    many = bool(wanted) and wanted[-1].endswith("...")
    if len(args) < len(wanted) - many:
        raise UsageError(f"{wanted[len(args)]} is missing: tfq {command.name} {command.arguments}.")
    if len(args) > len(wanted) and not many:
        raise UsageError(
            f"Unexpected argument {args[len(wanted)]!r}; usage: tfq {command.name} "
            f"{command.arguments} [flags]. A flag's value is written --flag=value."
        )
    return args


def _illegal_value(values: flags.FlagValues, message: str) -> UsageError:
    """absl says "flag --scheme=x: value should be one of <...>"; tfq names the nearest one."""
    name, _, received = message.removeprefix("flag --").partition(": ")[0].partition("=")
    flag = {f.name: f for f in _ordered(values)}.get(name)
    if isinstance(flag, flags.EnumFlag):
        return unknown_option(f"--{name}", received, flag.parser.enum_values)
    wanted = getattr(getattr(flag, "parser", None), "syntactic_help", "")
    if not wanted:
        return UsageError(f"{message[:1].upper()}{message[1:].rstrip('.')}.")
    return UsageError(f"--{name} takes {wanted}. Received: {received!r}.")


def _ordered(values: flags.FlagValues) -> list[Any]:
    """The flags in the order of their definition."""
    return [f for group in values.flags_by_module_dict().values() for f in group]


def help_text(command: Command) -> str:
    """The help of a command: usage, summary, one entry a flag with its default, examples."""
    lines = [f"usage: tfq {command.name} {command.arguments} [flags]".replace("  ", " ")]
    lines += textwrap.wrap(command.summary, _WIDTH, break_on_hyphens=False)
    lines.append("")
    for flag in _ordered(command.flags):
        lines += _flag_help(flag)
    if command.examples:
        lines += ["", *(f"  {e}" for e in command.examples)]
    return "\n".join(lines)


def _flag_help(flag: Any) -> list[str]:
    if flag.boolean:
        left = f"  --{flag.name}" + ("=true" if flag.default else "")
    else:
        default = flag.default
        if isinstance(default, (list, tuple)):
            default = ",".join(map(str, default))
        left = f"  --{flag.name}" + ("" if default in (None, "") else f"={default}")
    text = " ".join(flag.help.split()).removesuffix(_REPEATABLE)
    body = textwrap.wrap(text, _WIDTH - _HELP_COLUMN) or [""]
    if len(left) >= _HELP_COLUMN and len(body) == 1 and len(left) + 2 + len(body[0]) <= _WIDTH:
        return [f"{left}  {body[0]}"]
    if len(left) >= _HELP_COLUMN:
        return [left, *(" " * _HELP_COLUMN + line for line in body)]
    first = f"{left:<{_HELP_COLUMN}}{body[0]}".rstrip()
    return [first, *(" " * _HELP_COLUMN + line for line in body[1:])]


# --- progress -----------------------------------------------------------------------------------


class Progress:
    """Bars with speed and time left on a terminal, lines in a log: ``(stage, done, total)``.

    A new stage name ends the one before it. A total of None is a stage of unknown length: it shows
    the time that has passed. The bars vanish when the block ends; what stays is what `say` wrote.
    A log stays as short as the work is: what takes less than 30 s writes nothing there. Then come
    the stages so far, and from there on each as it begins, and every 30 s how far it is.

    Args:
      enabled: whether to show bars; by default when standard error is a terminal.
      clock: gives the time, in seconds.
    """

    def __init__(self, enabled: bool | None = None, clock: Callable[[], float] = time.monotonic):
        self._enabled = sys.stderr.isatty() if enabled is None else enabled
        self._log = _Log(clock)
        self._display: Any = None
        self._file: Any = None
        self._stage = ""
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()
            self._file.close()
            self._display = None

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        if not self._enabled:
            self._log(stage, done, total)
            return
        if self._display is None:
            self._start()
        if stage != self._stage:
            self._end_stage()
            self._stage = stage
            self._task = self._display.add_task(stage, total=total)
        self._display.update(self._task, completed=done, total=total)

    def _end_stage(self) -> None:
        if self._task is not None:
            task = self._display.tasks[self._task]
            total = task.total or task.completed or 1
            self._display.update(self._task, total=total, completed=total)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.text import Text

        class Clock(ProgressColumn):
            def render(self, task: Task) -> Text:
                passed = task.finished_time if task.finished else task.elapsed
                done = task.completed
                return Text(_clock(task.total, task.percentage, passed, task.time_remaining, done))

        # Its own copy of the terminal: native code's noise is silenced by redirecting descriptor 2.
        self._file = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace")
        self._display = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            Clock(),
            console=Console(file=self._file),
            transient=True,
        )
        self._display.start()


class _Log:
    """What `Progress` writes to standard error where that is no terminal."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._next = clock() + _LOG_SECONDS
        self._speaks = False
        self._stage = ""
        self._unsaid: list[str] = []

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = self._clock()
        due = now >= self._next
        if stage != self._stage:
            self._stage = stage
            self._unsaid.append(stage)
        elif due and self._speaks:
            self._unsaid.append(f"{stage}: {done:,}" + (f" of {total:,}" if total else ""))
        self._speaks |= due
        if self._speaks and self._unsaid:
            sys.stderr.write("".join(f"{line}\n" for line in self._unsaid))
            sys.stderr.flush()
            self._unsaid.clear()
            self._next = now + _LOG_SECONDS


def _clock(
    total: float | None,
    percentage: float,
    elapsed: float | None,
    remaining: float | None,
    done: float,
) -> str:
    """What stands behind a bar: the time so far; between start and end share, speed, time left."""
    if total is None or percentage >= 100 or (elapsed or 0) < 1 or remaining is None:
        return _seconds(elapsed or 0)
    rate = done / (elapsed or 1)
    speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
    return f"{percentage:.0f} %, {speed}/s, about {_seconds(remaining)} left"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f}:{seconds % 60:02.0f} min"
