"""What a user may pass, and the errors for what they may not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfq.errors import ModelError, UsageError
from tfq.sources import client, load_source


def test_a_missing_path_names_the_nearest(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"There is no model at .*Did you mean 'model.tflite'"):
        load_source(tmp_path / "modle.tflite")


def test_folders_that_are_no_saved_model(tmp_path):
    with pytest.raises(UsageError, match=r"is an empty folder"):
        load_source(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UsageError, match=r"is not a SavedModel: it has no saved_model.pb"):
        load_source(tmp_path)
    (tmp_path / "m.keras").write_text("")
    with pytest.raises(UsageError, match=r"Did you mean .*m\.keras\?"):
        load_source(tmp_path)


def test_part_of_a_saved_model_and_unknown_files(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UsageError, match=r"Pass its folder"):
        load_source(tmp_path / "saved_model.pb")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match=r"unknown extension '\.onnx'"):
        load_source(tmp_path / "m.onnx")


def test_objects_that_are_no_model():
    with pytest.raises(UsageError, match=r"Received: dict"):
        load_source({})
    for batch in (0, True, 1.5):
        with pytest.raises(UsageError, match=r"positive whole number"):
            load_source(b"", batch=batch)


def test_signatures_only_where_there_are_some(tmp_path):
    (tmp_path / "m.keras").write_text("")
    with pytest.raises(UsageError, match=r"has no signatures to choose from"):
        load_source(tmp_path / "m.keras", signature="x")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", "TensorFlow was ended by SIGSEGV in the stage"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL.*out of memory"),
        (
            "import sys; print('Converting', flush=True); sys.exit('F0 Check failed: a == b')",
            "exit code 1 in the stage 'Converting': F0 Check failed: a == b",
        ),
        (
            "import sys; sys.exit(\"ModuleNotFoundError: No module named 'tensorflow'\")",
            "TensorFlow is not installed",
        ),
    ],
)
def test_a_worker_that_dies_is_one_error_and_leaves_nothing(tmp_path, monkeypatch, code, message):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "m.h5").write_bytes(b"")
    monkeypatch.setattr(client, "_COMMAND", [sys.executable, "-c", code])
    with pytest.raises(ModelError, match=message):
        load_source(tmp_path / "m.h5", scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_ctrl_c_ends_the_worker_and_leaves_nothing(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "m.h5").write_bytes(b"")
    worker = "import os,time; print(f'pid {os.getpid()}', flush=True); time.sleep(60)"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tfq.sources import client, load_source\n"
        f"client._COMMAND = [sys.executable, '-c', {worker!r}]\n"
        "say = lambda line: print(line, flush=True)\n"
        "try:\n"
        "    load_source(sys.argv[1], scratch=Path(sys.argv[2]), progress=say)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "m.h5"), str(scratch)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline().split()[1])
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 7
    process.stdout.close()
    assert list(scratch.iterdir()) == []
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_a_saved_model_end_to_end(tf_folder, tmp_path, capfd):
    stages: list[str] = []
    loaded = load_source(tf_folder / "cnn", scratch=tmp_path, progress=stages.append)
    assert (loaded.kind, loaded.signature) == ("saved_model", "serving_default")
    assert loaded.representative_data == tf_folder / "cnn/assets.extra/tfq_representative_data.npz"
    assert loaded.checks["max_abs_diff"] < 1e-5
    assert {"stem", "depth", "block/head"} <= set(loaded.layer_names.values())
    assert set(loaded.timings) == {"import", "load", "convert", "compare"}
    assert stages[0] == "Starting TensorFlow"
    assert len(stages) == 4
    assert list(tmp_path.iterdir()) == []
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.slow
def test_a_wrong_signature_end_to_end(tf_folder):
    with pytest.raises(UsageError, match=r"has no signature 'serv'.*Did you mean 'serve'"):
        load_source(tf_folder / "cnn", signature="serv")
