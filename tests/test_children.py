"""Children end with their parent, also while they hold Python's lock."""

import os
import signal
import subprocess
import sys
import time

import pytest

# A child that never lets go of Python's lock, as TensorFlow's converter does not.
CHILD = (
    "from tfq.children import end_with_parent; end_with_parent(); print('up', flush=True);"
    "import re; re.match('(a+)+b', 'a' * 60)"
)
PARENT = f"""
import subprocess, sys
from tfq.children import lifeline
with lifeline() as life:
    child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=life, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
    child.wait()
"""
FORKING = """
import os, sys
from tfq.graph import check
def endless(*_):
    print(os.getpid(), file=out, flush=True)
    while True:
        pass
check.run_once, out = endless, os.fdopen(os.dup(1), "w")
check.run_in_child(b"", where="it")
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("code", [PARENT, FORKING], ids=["started", "forked"])
def test_a_child_ends_with_a_parent_that_is_killed(code):
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        os.kill(parent.pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while alive(child) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(child)


def test_a_parent_that_ended_before_the_child_asked():
    reader, writer = os.pipe()
    os.close(writer)
    code = "from tfq.children import end_with_parent; end_with_parent(); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], stdin=reader, stdout=subprocess.PIPE)
    os.close(reader)
    assert (done.returncode == 0, done.stdout) == (False, b"")


def test_a_child_that_was_started_by_hand_stays():
    code = "from tfq.children import end_with_parent; end_with_parent(); print('still here')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert done.stdout == b"still here\n"


def test_a_time_limit_ends_a_process_that_holds_pythons_lock():
    code = (
        "import re; from tfq.children import time_limit\n"
        "with time_limit(0.2): pass\n"
        "with time_limit(0.2): re.match('(a+)+b', 'a' * 60)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGALRM
