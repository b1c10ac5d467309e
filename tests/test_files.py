"""Outputs are whole or not there."""

import errno
import os

import pytest

from tfq.errors import TfqError, UsageError
from tfq.files import atomic_writer, check_output, read_bytes, write_atomic


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "model.tflite"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "model.tflite", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "model.tflite").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")

    def fail_half_way():
        with atomic_writer(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TfqError, match="disk is full"):
        write_atomic(tmp_path / "model.tflite", b"x")
    assert os.listdir(tmp_path) == []


def test_no_such_folder_and_a_folder_as_output(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        write_atomic(tmp_path / "missing" / "model.tflite", b"x")
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path)
    check_output(tmp_path / "model.tflite")
    assert os.listdir(tmp_path) == []


def test_reading_says_what_is_wrong(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a") == b"abc"
    with pytest.raises(UsageError, match="There is no file"):
        read_bytes(tmp_path / "b")
    with pytest.raises(UsageError, match="it is a folder"):
        read_bytes(tmp_path)


def test_a_device_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (check_output, lambda path: write_atomic(path, b"x")):
        with pytest.raises(UsageError, match="no regular file"):
            write(pipe)
    assert os.listdir(tmp_path) == ["pipe"]
    assert not pipe.is_file()


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "model.tflite"
    link.symlink_to(tmp_path / "real" / "v1.tflite")
    write_atomic(link, b"one")
    write_atomic(link, b"two")
    assert link.is_symlink()
    assert os.listdir(tmp_path / "real") == ["v1.tflite"]
    assert (tmp_path / "real" / "v1.tflite").read_bytes() == b"two"
