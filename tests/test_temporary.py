"""What a dead process left is removed; what is alive, or is not ours, stays."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from tfq import temporary
from tfq.files import check_output, write_atomic
from tfq.temporary import sweep, temporary_file, temporary_folder

KILLED = """
import os, signal, sys
from tfq.temporary import temporary_file, temporary_folder
place = sys.argv[1]
with temporary_file(place, "model.tflite") as (file, _), temporary_folder("x", place) as folder:
    open(os.path.join(folder, "inside"), "w").close()
    file.write(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds a temporary file and a folder in `tmp_path`."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_what_a_killed_process_left_is_removed_and_what_is_alive_stays(tmp_path, other):
    sweep(str(tmp_path))
    assert len(os.listdir(tmp_path)) == 2
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert len(os.listdir(tmp_path)) == 2
    sweep(str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "next_run", [check_output, lambda path: write_atomic(path, b"whole")], ids=["check", "write"]
)
def test_the_next_that_writes_there_removes_it(tmp_path, other, next_run):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    next_run(tmp_path / "model.tflite")
    assert set(os.listdir(tmp_path)) <= {"model.tflite"}


def test_another_program_and_a_link_are_left_alone(tmp_path):
    (tmp_path / ".model.tflite.abcdefgh.tmp").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.tfq-tmp").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe.tfq-tmp")
    before = sorted(os.listdir(tmp_path))
    sweep(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == before


def test_another_users_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "a.tfq-tmp").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    sweep(str(tmp_path))
    assert os.listdir(tmp_path) == ["a.tfq-tmp"]


def test_a_block_leaves_nothing(tmp_path):
    with temporary_folder("x", tmp_path) as folder, temporary_file(str(tmp_path), "y") as (f, _):
        (tmp_path / folder / "deep").mkdir()
        f.write(b"1")
        assert len(os.listdir(tmp_path)) == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch, kind):
    real, swept = fcntl.flock, []

    def flock(handle, how):
        if not swept:  # Another process, between creating and locking.
            swept.append(True)
            sweep(str(tmp_path))
            assert os.listdir(tmp_path) == []
        real(handle, how)

    monkeypatch.setattr(temporary.fcntl, "flock", flock)
    make = temporary_folder("x", tmp_path) if kind == "folder" else temporary_file(tmp_path, "x")
    with make:
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_a_long_name_in_any_script(tmp_path):
    name = "\N{GRINNING FACE}" * 62 + ".tfl"
    write_atomic(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name]
