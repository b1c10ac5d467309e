"""The plumbing of the commands: flags, errors as exit codes, progress, and `tfq` itself."""

import errno
import re
import signal
import subprocess
import sys
import time

import pytest
from absl import flags

from tfq import __main__ as tfq_main
from tfq import cli
from tfq.errors import DataError, UsageError

VALUES = flags.FlagValues()
SCHEME = flags.DEFINE_string("scheme", "int8", "int8 or int16x8.", flag_values=VALUES)
MODE = flags.DEFINE_enum("mode", "fast", ["fast", "slow"], "Speed.", flag_values=VALUES)
TRIES = flags.DEFINE_integer("tries", 3, "How often.", flag_values=VALUES)
KEEP = flags.DEFINE_boolean("keep", True, "Keeps what it finds.", flag_values=VALUES)
ALLOW = flags.DEFINE_multi_string("allow", [], "Repeatable.", flag_values=VALUES)


def command(run, arguments="SOURCE"):
    return cli.Command("try", arguments, "Tries something.", VALUES, run, ("tfq try x",))


def run(argv, body=lambda args: 0, arguments="SOURCE"):
    return cli.run(command(body, arguments), argv)


def raising(error):
    def body(args):
        raise error

    return body


def test_flags_before_and_after_the_argument():
    seen = []

    def body(args):
        seen.append((args, SCHEME.value, TRIES.value, KEEP.value, ALLOW.value))
        return 0

    argv = ["--tries=5", "model", "--scheme", "float16", "--nokeep", "--allow=A", "--allow=B"]
    assert run(argv, body) == 0
    assert run(["model"], body) == 0
    assert seen == [
        (["model"], "float16", 5, False, ["A", "B"]),
        (["model"], "int8", 3, True, []),
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["x", "--schem=int8"], "Unknown flag --schem. Did you mean '--scheme'?"),
        (["x", "--mode=fasst"], "Choose one of: fast, slow. Did you mean 'fast'?"),
        (["x", "--tries=abc"], "--tries takes an integer. Received: 'abc'."),
        (["x", "--scheme"], "--scheme"),
        ([], "SOURCE is missing"),
        (["x", "y"], "Unexpected argument 'y'"),
    ],
)
def test_a_wrong_command_is_one_error_and_exit_code_2(argv, message, capsys):
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.splitlines()[1:] == ["See: tfq try --help"]


def test_any_number_of_arguments():
    seen = []
    assert run(["a", "b", "c"], lambda args: seen.append(args) or 0, "FIRST REST...") == 0
    assert run(["a"], lambda args: seen.append(args) or 0, "FIRST REST...") == 0
    assert seen == [["a", "b", "c"], ["a"]]
    assert run([], arguments="FIRST REST...") == 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("Sample 3 holds NaN."), 1, "error: Sample 3 holds NaN.\n"),
        (UsageError("No."), 2, "error: No.\nSee: tfq try --help\n"),
        (KeyboardInterrupt(), 130, "error: interrupted.\n"),
        (OSError(errno.ENOSPC, "x", "/out"), 1, "error: /out: the disk is full."),
        (PermissionError(errno.EACCES, "x", "/out"), 1, "error: /out: permission denied."),
        (MemoryError(), 1, "error: out of memory."),
    ],
)
def test_errors_become_exit_codes(error, code, message, capsys):
    assert run(["x"], raising(error)) == code
    assert capsys.readouterr().err.startswith(message)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(["x"], raising(ZeroDivisionError()))


def test_help_shows_every_flag_with_its_default_within_80_columns(capsys):
    assert run(["x", "--help"], raising(AssertionError())) == 0
    text = capsys.readouterr().out
    assert "usage: tfq try SOURCE [flags]" in text
    for shown in ("--scheme=int8", "--mode=fast", "--tries=3", "--keep=true", "--allow "):
        assert shown in text
    assert text.index("--scheme") < text.index("--mode") < text.index("--allow")
    assert "repeat this option" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_log_of_short_work_is_empty(capfd):
    with cli.Progress() as progress:
        progress("Calibrating", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_log_of_long_work_has_each_stage_and_now_and_then_how_far_it_is(capfd):
    now = 0.0
    with cli.Progress(enabled=False, clock=lambda: now) as progress:
        progress("Loading")
        for done in range(1, 81):
            now = float(done)
            progress("Calibrating", done, 2000)
            if done == 29:
                assert capfd.readouterr() == ("", "")
        progress("Improving: at most 3 trials and some 2 min")
        for done in range(3):
            progress("Trying rules, at most 3 times", done, 3)
            now += 16
        progress("Correcting", 7)
        now += 31
        progress("Correcting", 8)
    assert capfd.readouterr().err.splitlines() == [
        "Loading",
        "Calibrating",
        "Calibrating: 60 of 2,000",
        "Improving: at most 3 trials and some 2 min",
        "Trying rules, at most 3 times",
        "Trying rules, at most 3 times: 2 of 3",
        "Correcting",
        "Correcting: 8",
    ]


def test_progress_on_a_terminal_shows_stages_and_what_is_left(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with cli.Progress(enabled=True) as progress:
        progress("Reading")
        for done in range(8):
            progress("Calibrating", done, 32)
            time.sleep(0.25)
    err = capfd.readouterr().err
    assert "Reading" in err
    assert "Calibrating" in err
    assert re.search(r"\d+ %, [\d.]+/s, about \d+ s left", err)


@pytest.mark.parametrize(
    ("clock", "text"),
    [
        ((None, 0, 12.3, None, 5), "12 s"),
        ((10, 0, 0.2, None, 0), "0 s"),
        ((10, 40, 8.0, 12.0, 4), "40 %, 0.5/s, about 12 s left"),
        ((90000, 40, 8.0, 125.0, 36000), "40 %, 4,500/s, about 2:05 min left"),
        ((10, 100, 20.0, 0.0, 10), "20 s"),
    ],
)
def test_clock(clock, text):
    assert cli._clock(*clock) == text


def tfq(*argv):
    return subprocess.run(
        [sys.executable, "-m", "tfq", *argv], capture_output=True, text=True, timeout=60
    )


def test_tfq_lists_its_commands():
    done = tfq("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in tfq_main.COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert len(done.stdout.splitlines()) <= 24


def test_tfq_names_the_nearest_command():
    done = tfq("inspekt")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Did you mean 'inspect'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_tfq_alone_is_a_wrong_command():
    done = tfq()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: tfq COMMAND")


def test_tfq_version():
    from tfq import __version__

    assert tfq("--version").stdout == f"tfq {__version__}\n"


def test_ctrl_c_is_exit_code_130_without_traceback():
    script = (
        "import time\n"
        "from absl import flags\n"
        "from tfq import cli\n"
        "def body(args):\n"
        "    cli.say('ready')\n"
        "    time.sleep(30)\n"
        "    return 0\n"
        "raise SystemExit(cli.run(cli.Command('wait', '', '', flags.FlagValues(), body), []))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "error: interrupted.\n"
