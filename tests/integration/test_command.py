"""`tfq convert` from start to end, as a process: what it prints, writes and leaves alone."""

import hashlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import cnn

from tfq.benchmark.command import FLAGS as BENCHMARK
from tfq.convert.command import FLAGS
from tfq.evaluate.command import FLAGS as EVALUATE
from tfq.graph.integers import float_tensors
from tfq.graph.model import Model
from tfq.runtime import Runner

ROOT = Path(__file__).resolve().parents[2]
SECONDS = re.compile(r"^  seconds .*\n( {12}.*\n)*", re.MULTILINE)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "model.tflite").write_bytes(cnn())
    x = rng.uniform(-1, 1, (64, 8, 8, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x0=x, y=rng.integers(0, 5, 64))
    return tmp_path


def command(module, *argv):
    return [sys.executable, "-m", *module.split(), *map(str, argv)]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(folder, *argv, module="tfq.convert"):
    done = subprocess.run(
        command(module, *argv),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_both_names_of_the_command_do_the_same(folder):
    printed, written = [], []
    for module in ("tfq.convert", "tfq convert"):
        printed.append(
            SECONDS.sub("", run(folder, "model.tflite", "--data=data.npz", module=module))
        )
        written.append((folder / "model_int8.tflite").read_bytes())
    assert printed[0] == printed[1]
    assert written[0] == written[1]
    assert run(folder, "--help") == run(folder, "--help", module="tfq convert")


def test_help_fits_a_screen_and_names_defaults(folder):
    lines = run(folder, "--help").splitlines()
    assert len(lines) < 45
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for group in FLAGS.flags_by_module_dict().values():
        for flag in group:
            assert f"  --{flag.name}" in text
            if flag.default not in (None, [], False):
                assert f"  --{flag.name}={flag.default}" in text


def test_what_is_printed(folder):
    out = run(folder, "model.tflite", "--data=data.npz", "--output=small.tflite")
    lines = out.splitlines()
    assert lines[0] == "small.tflite"
    assert max(map(len, lines)) <= 80
    rows = {line[2:12].strip(): line[12:] for line in lines[1:] if line[2] != " "}
    assert list(rows) == [
        *("scheme", "size", "input", "output", "ops", "data", "ranges", "bias", "error"),
        *("runs on", "accuracy", "seconds"),
    ]
    assert rows["scheme"] == "int8: full integer"
    assert rows["input"].startswith("x0: int8 [1,8,8,2], real = ")
    assert rows["error"].startswith("y0: ")
    assert "unseen samples" in rows["error"]


def test_the_summary_says_what_was_written(folder):
    run(
        folder,
        "model.tflite",
        "--data=data.npz",
        "--output=o.tflite",
        "--summary_json=s.json",
    )
    summary = json.loads((folder / "s.json").read_text())
    model = (folder / "o.tflite").read_bytes()
    source = (folder / "model.tflite").read_bytes()
    assert summary["output"] == "o.tflite"
    assert summary["model"]["bytes"] == len(model)
    assert summary["model"]["sha256"] == hashlib.sha256(model).hexdigest()
    assert summary["model"]["full_integer"] is True
    assert summary["model"]["inputs"][0]["name"] == "x0"
    assert summary["source"]["float_bytes"] == len(source)
    assert summary["config"]["scheme"] == "int8"
    assert summary["proof"]["outputs"][0]["name"] == "y0"
    assert summary["proof"]["held_back"] is True
    assert summary["accuracy"]["samples"] == 64
    assert all(v >= 0 for v in summary["seconds"].values())
    readme = (ROOT / "README.md").read_text("utf-8")
    documented = set(re.findall(r"^\| (`.*`) \|", readme, re.MULTILINE))
    keys = {k for cell in documented for k in re.findall(r"`(\w+)`", cell)}
    assert set(summary) - {"output"} <= keys


def test_a_replayed_plan_and_saved_statistics_give_the_same_file(folder):
    argv = ["model.tflite", "--data=data.npz"]
    run(folder, *argv, "--output=a.tflite", "--plan_out=p.json", "--statistics_out=s.npz")
    run(folder, *argv, "--output=b.tflite", "--plan=p.json")
    assert (folder / "a.tflite").read_bytes() == (folder / "b.tflite").read_bytes()
    out = run(folder, "model.tflite", "--statistics=s.npz", "--plan_out=q.json")
    assert "COLLAPSED" not in out
    plans = [json.loads((folder / name).read_text()) for name in ("p.json", "q.json")]
    assert plans[0]["tensors"] == plans[1]["tensors"]


def test_raw_bytes_go_into_an_input_with_a_range(folder):
    run(
        folder,
        *("model.tflite", "--data=data.npz", "--output=o.tflite"),
        *("--input_type=uint8", "--input_range=-1,1", "--output_type=float32"),
    )
    pixels = np.random.default_rng(3).integers(0, 256, (1, 8, 8, 2)).astype(np.uint8)
    got = Runner((folder / "o.tflite").read_bytes()).run({"image": pixels})["probabilities"]
    real = (pixels / 127.5 - 1).astype(np.float32)
    want = Runner((folder / "model.tflite").read_bytes()).run({"image": real})["probabilities"]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=0.03)


@pytest.mark.parametrize("scheme", ["int16x8", "dynamic", "weight_only", "float16", "float32"])
def test_schemes_name_their_files(folder, scheme):
    out = run(folder, "model.tflite", "--data=data.npz", f"--scheme={scheme}")
    assert out.startswith(f"model_{scheme}.tflite\n  scheme    {scheme}: ")
    model = Model.from_bytes((folder / f"model_{scheme}.tflite").read_bytes())
    assert bool(float_tensors(model)) == (scheme != "int16x8")


def test_float_islands_are_listed_with_the_reason(folder):
    out = run(folder, "model.tflite", "--data=data.npz", "--exclude=^logits$")
    assert "NOT full integer" in out
    assert "  float     FULLY_CONNECTED of logits: excluded by '^logits$'" in out


def test_lists_take_commas_and_repetitions(folder):
    argv = ["model.tflite", "--data=data.npz", "--summary_json=s.json"]
    run(folder, *argv, "--exclude=^logits$,^pooled$", "--exclude=^point$")
    islands = json.loads((folder / "s.json").read_text())["plan"]["float_islands"]
    assert set(islands) == {"logits", "pooled", "point"}


def test_some_layers_in_16_bits(folder):
    argv = ["model.tflite", "--data=data.npz", "--output=o.tflite"]
    out = run(folder, *argv, "--int16=^residual$,^depthwise$", "--int16=^pooled$")
    assert "int8: full integer" in out
    model = Model.from_bytes((folder / "o.tflite").read_bytes())
    dtypes = {t.name: t.dtype for t in model.main.tensors()}
    assert {dtypes[n] for n in ("residual", "depthwise", "pooled")} == {"int16"}
    assert {dtypes[n] for n in ("conv", "point", "logits")} == {"int8"}


def test_narrow_weights_but_for_some_layers(folder):
    argv = ["model.tflite", "--data=data.npz", "--summary_json=s.json"]
    out = run(folder, *argv, "--weight_bits=4,^conv$=8", "--weight_bits=^logits$=2")
    assert out.startswith("model_int8_w4.tflite\n  scheme    int8: full integer, 4-bit weights\n")
    assert "  weights   30 in int2 (0.0 KB), 90 in int4 (0.0 KB), 108 in int8 (0.1 KB)\n" in out
    model = Model.from_bytes((folder / "model_int8_w4.tflite").read_bytes())
    found = {op.outputs[0].name: op.input(1).dtype for op in model.main.ops if len(op.inputs) > 2}
    assert found == {"conv": "int8", "point": "int4", "depthwise": "int4", "logits": "int2"}
    config = json.loads((folder / "s.json").read_text())["config"]
    assert config["weight_bits"] == 4
    assert [(r["regex"], r["weight_bits"]) for r in config["rules"]] == [
        ("^conv$", 8),
        ("^logits$", 2),
    ]


def test_a_terminal_sees_the_stages_and_then_the_result(folder):
    (folder / "slow.py").write_text(
        "import time, numpy as np\n"
        "def samples():\n"
        "    for n in range(40):\n"
        "        time.sleep(0.05)\n"
        "        yield [np.full((1, 8, 8, 2), n / 40, np.float32)]\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("tfq.convert", "model.tflite", "--data=slow:samples"),
        cwd=folder,
        env={**environment(), "TERM": "xterm", "COLUMNS": "80"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.1)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            seen += os.read(ours, 65536)
        except OSError:
            break  # The other end is closed.
    out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == 0
    for stage in ("Calibrating", "Correcting biases", "Proving"):
        assert stage.encode() in seen
    assert out.startswith("model_int8.tflite\n")
    assert "\x1b" not in out


@pytest.mark.slow
def test_the_example_prints_what_the_readme_shows(tmp_path):
    out = run(tmp_path, ROOT / "examples" / "digits" / "saved_model")
    readme = (ROOT / "README.md").read_text("utf-8")
    block = readme[readme.index("    saved_model_int8.tflite\n") :].split("\n\n")[0] + "\n"
    shown = "".join(line[4:] + "\n" for line in block.splitlines())
    assert SECONDS.sub("", shown) == SECONDS.sub("", out)
    assert {p.name for p in tmp_path.iterdir()} == {"saved_model_int8.tflite"}


def test_commands_of_the_readme_name_flags_that_exist():
    commands = (BENCHMARK, FLAGS, EVALUATE)
    known = {f.name for c in commands for group in c.flags_by_module_dict().values() for f in group}
    readme = (ROOT / "README.md").read_text("utf-8")
    used = set(re.findall(r"--([a-z_0-9]+)", readme)) - {"tensors", "json", "help"}
    assert used <= known
    assert len(used) > 15


@pytest.mark.slow
def test_the_second_command_on_a_model_starts_no_tensorflow(tmp_path, monkeypatch):
    example = ROOT / "examples" / "digits" / "saved_model"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = run(tmp_path, example, "--summary_json=s1.json", "--output=1.tflite")
    for package in ("tensorflow", "keras"):  # They stand in front of the real ones.
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('It was imported.')")
    second = run(tmp_path, example, "--summary_json=s2.json", "--output=2.tflite")
    assert "(cached)" not in first
    assert re.search(r"^  seconds .*: source \d+\.\d \(cached\)", second, re.MULTILINE)
    assert (tmp_path / "2.tflite").read_bytes() == (tmp_path / "1.tflite").read_bytes()
    summaries = [json.loads((tmp_path / f"s{i}.json").read_text()) for i in (1, 2)]
    assert [s["source"].pop("cached") for s in summaries] == [False, True]
    assert summaries[0]["source"] == summaries[1]["source"]
    assert summaries[0]["warnings"] == summaries[1]["warnings"]
    printed = run(tmp_path, example, "2.tflite", f"--data={example}", module="tfq.evaluate")
    assert "(cached: saved_model)" in printed
