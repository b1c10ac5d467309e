"""Whatever is wrong with what a user gives: one error, an exit code, no traceback, no output.

What could end the process runs as one; the many wrong flags run the command in this process.
"""

import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import Net, cnn

from tfq import TfqError, convert_model
from tfq.convert.command import FLAGS, run_command
from tfq.errors import DataError, ModelError, UsageError
from tfq.graph.model import Model, Op, Tensor
from tfq.plan.scheme import LayerRule

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (8, 8, 2)


def images(count=12, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, *SHAPE)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """A folder with a model and samples that go together."""
    (tmp_path / "model.tflite").write_bytes(cnn())
    np.savez(tmp_path / "data.npz", x0=images(), y=np.arange(12) % 5)
    return tmp_path


def environment(folder):
    path = os.pathsep.join([str(ROOT), str(folder)])
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)}


def run(folder, *argv):
    return subprocess.run(
        [sys.executable, "-m", "tfq.convert", *map(str, argv)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_here(folder, *argv):
    """The command in this process, as far as it can be told apart by its results."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(a) for a in argv])
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def refused(folder, *argv, code, says, run=run):
    """Runs the command and checks what every refusal has in common."""
    before = {p: p.stat().st_size for p in folder.rglob("*")}
    done = run(folder, *argv)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("See: tfq convert --help\n") == (code == 2)
    for text in [says] if isinstance(says, str) else says:
        assert text in done.stderr
    after = {p: p.stat().st_size for p in folder.rglob("*") if "__pycache__" not in p.parts}
    assert after == {p: n for p, n in before.items() if "__pycache__" not in p.parts}
    return done.stderr


def converted(folder, *argv):
    done = run_here(folder, *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the model ------------------------------------------------------------------------------------


def test_a_path_that_does_not_exist(folder):
    refused(folder, "modle.tflite", code=2, says=["no model at", "Did you mean 'model.tflite'?"])


def test_an_empty_folder(folder):
    (folder / "empty").mkdir()
    refused(folder, "empty", code=2, says="is an empty folder", run=run_here)


def test_a_folder_that_is_no_saved_model(folder):
    (folder / "other").mkdir()
    (folder / "other" / "model.keras").write_bytes(b"")
    refused(
        folder,
        "other",
        code=2,
        says=["no saved_model.pb", "Did you mean other/model.keras?"],
        run=run_here,
    )


def test_an_unknown_extension(folder):
    (folder / "model.onnx").write_bytes(b"x")
    refused(folder, "model.onnx", code=2, says="unknown extension '.onnx'", run=run_here)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.95])
def test_a_truncated_model(folder, keep):
    whole = cnn()
    size = keep if isinstance(keep, int) else int(keep * len(whole))
    (folder / "cut.tflite").write_bytes(whole[:size])
    refused(folder, "cut.tflite", "--data=data.npz", code=1, says="cut.tflite")


def test_bit_flips_end_in_an_error_or_a_whole_model(folder):
    whole = np.frombuffer(cnn(), np.uint8)
    rng = np.random.default_rng(1)
    for number in range(8):
        damaged = whole.copy()
        for at in rng.integers(0, whole.size, 3):
            damaged[at] ^= 1 << rng.integers(0, 8)
        (folder / "flipped.tflite").write_bytes(damaged.tobytes())
        done = run(folder, "flipped.tflite", "--data=data.npz", "--output=out.tflite")
        assert done.returncode in (0, 1, 2), (number, done.returncode, done.stderr)
        assert "Traceback" not in done.stderr, number
        assert (folder / "out.tflite").exists() == (done.returncode == 0), number
        assert done.returncode == 0 or done.stderr.startswith("error: "), number
        (folder / "out.tflite").unlink(missing_ok=True)


def test_an_already_quantized_model(folder):
    converted(folder, "model.tflite", "--data=data.npz", "--output=int8.tflite")
    refused(folder, "int8.tflite", "--data=data.npz", code=1, says="already quantized")


def test_no_such_signature(folder):
    says = "has no signature 'serve'; it has: serving_default"
    refused(
        folder,
        "model.tflite",
        "--data=data.npz",
        "--signature=serve",
        code=2,
        says=says,
        run=run_here,
    )


def custom_model(*codes):
    net = Net()
    x = net.input(1, 4)
    last = net.op("RELU", x, out="scope/first/Relu")
    for n, code in enumerate(codes):
        made = Tensor(f"scope/layer_{n}/out", (1, 4), "float32")
        net.ops.append(Op("CUSTOM", [last], [made], custom_code=code))
        last = made
    return net.bytes(last)


def test_every_custom_op_is_named_with_the_way_out(folder):
    (folder / "custom.tflite").write_bytes(custom_model("FlexErf", "Mine"))
    np.savez(folder / "four.npz", x0=np.ones((3, 4), np.float32))
    said = refused(
        folder, "custom.tflite", "--data=four.npz", code=1, says=["FlexErf", "Mine", "CUSTOM"]
    )
    assert "Replace" in said
    assert "layer_0" in said
    for flags in (["--scheme=dynamic"], ["--allow_float=CUSTOM:FlexErf,CUSTOM:Mine"]):
        says = ["LiteRT cannot run CUSTOM:FlexErf, CUSTOM:Mine", "builtin ones"]
        refused(folder, "custom.tflite", "--data=four.npz", *flags, code=1, says=says)


# --- the samples ----------------------------------------------------------------------------------


def spoiled(index, value):
    x = images()
    x[index, 1, 2, 0] = value
    return x


BAD_DATA = {
    "shape": ({"x0": images()[:, :7]}, ["(8, 8, 2)", "Received: (7, 8, 2)"]),
    "name": ({"first": images(), "second": images()}, ["input 'x0'", "'first', 'second'"]),
    "text": ({"x0": images().astype(str)}, "dtype <U32"),
    "complex": ({"x0": images().astype(complex)}, "dtype complex128"),
    "nan": ({"x0": spoiled(7, np.nan)}, ["Sample 7 of", "1 NaN"]),
    "infinity": ({"x0": spoiled(3, -np.inf)}, ["Sample 3 of", "1 infinite"]),
    "empty": ({"x0": images()[:0]}, "has no samples"),
    "nothing": ({}, "has no data for the model's input 'x0'"),
    "lengths": ({"x0": images(), "y": np.arange(3)}, "different numbers of samples"),
}


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_samples(folder, what):
    arrays, says = BAD_DATA[what]
    np.savez(folder / "bad.npz", **arrays)
    refused(folder, "model.tflite", "--data=bad.npz", code=1, says=says, run=run_here)


@pytest.mark.parametrize("content", [b"", b"hello" * 50, None])
def test_damaged_samples(folder, content):
    whole = (folder / "data.npz").read_bytes()
    (folder / "bad.npz").write_bytes(whole[: len(whole) // 2] if content is None else content)
    refused(
        folder,
        "model.tflite",
        "--data=bad.npz",
        code=1,
        says="bad.npz cannot be read",
        run=run_here,
    )


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ("dat.npz", 1, ["no data at 'dat.npz'", "Did you mean 'data.npz'?"]),
        ("syntetic", 1, "Did you mean 'synthetic'?"),
        ("no_such_module:f", 2, "no module 'no_such_module'"),
        ("mine:sample", 2, ["mine has no 'sample'", "Did you mean 'samples'?"]),
        ("mine:number", 2, "is not callable"),
        ("mine:broken", 1, ["mine:broken", "ZeroDivisionError"]),
        ("mine:nothing", 1, "no samples"),
    ],
)
def test_data_that_is_not_there(folder, value, code, says):
    (folder / "mine.py").write_text(
        "number = 3\ndef samples():\n    yield 1\ndef broken():\n    yield 1 / 0\n"
        "def nothing():\n    return iter(())\n"
    )
    refused(folder, "model.tflite", f"--data={value}", code=code, says=says)


def test_without_data_the_three_ways_out_are_named(folder):
    says = ["--data=FILE", "--scheme=dynamic", "--data=synthetic"]
    refused(folder, "model.tflite", code=2, says=says)


def test_synthetic_data_is_said_to_calibrate_nothing(folder):
    assert "not calibrated" in converted(folder, "model.tflite", "--data=synthetic")


@pytest.mark.parametrize(
    "labels", [np.arange(12) + 90, np.eye(5)[np.arange(12) % 5], np.linspace(0, 1, 12) - 3]
)
def test_labels_that_are_no_class_numbers(folder, labels):
    np.savez(folder / "odd.npz", x0=images(), y=labels)
    assert "accuracy  not measured" in converted(folder, "model.tflite", "--data=odd.npz")


def test_no_labels_no_accuracy(folder):
    np.savez(folder / "plain.npz", x0=images())
    assert "accuracy" not in converted(folder, "model.tflite", "--data=plain.npz")


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("--scheme=int9", "int8"),
        ("--calibration=minmx", "minmax"),
        ("--weights=mes", "mse"),
        ("--quality=bets", "best"),
        ("--granularity=channel", "per_channel"),
        ("--dense_granularity=tensor", "per_tensor"),
        ("--bias_correction=sequentia", "sequential"),
        ("--input_type=unit8", "uint8"),
        ("--output_type=float", "float32"),
        ("--crop=centre", "center"),
        ("--shceme=int8", "--scheme"),
    ],
)
def test_an_unknown_value_gets_the_nearest_right_one(folder, flag, nearest):
    says = f"Did you mean {nearest!r}?"
    refused(folder, "model.tflite", "--data=data.npz", flag, code=2, says=says, run=run_here)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--calibration=percentile:high", "takes a number, percent"),
        ("--calibration=percentile:101", "Received: 101.0"),
        ("--calibration=minmax:3", "takes no parameter"),
        ("--input_range=1", "Received: '1'"),
        ("--input_range=a,b", "Received: 'a,b'"),
        ("--input_range=1,2", "lo <= 0 <= hi"),
        ("--input_range=nan,1", "lo <= 0 <= hi"),
        ("--batch=0", "Received: 0"),
        ("--batch=two", "Received: 'two'"),
        ("--batch=100000000000", "Received: 100000000000"),
        ("--samples=0", "at least 1"),
        ("--resize=big", "Received: 'big'"),
        ("--resize=0,4", "Received: (0, 4)"),
        ("--scale=", "--scale takes"),
        ("--mean=1,x", "Received: '1,x'"),
        ("--mean=1", "--data=data.npz holds no images"),
        ("--exclude=(", "not a regular expression"),
        ("--allow_float=(", "not a regular expression"),
        ("--exclude=nothing_like_this", "'nothing_like_this' matches no layer"),
        ("--exclude=conv,", "empty entry"),
        ("--int16=(", "not a regular expression"),
        ("--int16=nothing_like_this", "int16: 'nothing_like_this' matches no layer"),
        ("--int16=conv,", "empty entry"),
        ("--int16=conv --scheme=dynamic", "'conv' is to be computed in integers"),
        ("--equalization=cross_layer --scheme=float16", "needs an integer scheme"),
        ("--plan=none.json", "no file none.json"),
        ("--plan=model.tflite", "is not a plan"),
        ("--statistics=none.npz", "no file none.npz"),
        ("--weight_bits=5", "Weights have 8, 4 or 2 bits"),
        ("--weight_bits=four", "8, 4 or 2, or REGEX=BITS"),
        ("--weight_bits=4,8", "says 4 and 8 for the whole model"),
        ("--weight_bits=point=3", "Weights have 8, 4 or 2 bits"),
        ("--weight_bits==8", "empty entry"),
        ("--weight_bits=no_such=4", "of those that have weights"),
        ("--int16=auto:0", "int16 is auto, auto:PERCENT"),
        ("--int16=auto,none", "says auto and none"),
        ("--int16=auto --scheme=int16x8", "scheme=int16x8 has none"),
        ("--output=model.tflite", "is the source itself"),
        ("--output=./data.npz", "is the data itself"),
        ("--output=o.tflite --summary_json=o.tflite", "is also --output"),
        ("--output=.", "it is a folder"),
        ("--output=nowhere/out.tflite", "there is no folder"),
        ("--summary_json=nowhere/s.json", "there is no folder"),
        ("--scheme=dynamic --input_type=int8", "needs an integer scheme"),
        ("--scheme=dynamic --statistics_out=s.npz", "collects no statistics"),
        ("another.tflite", "Unexpected argument"),
        ("--output", "--output"),
    ],
)
def test_a_wrong_flag(folder, flag, says):
    refused(
        folder, "model.tflite", "--data=data.npz", *flag.split(), code=2, says=says, run=run_here
    )


def test_no_source(folder):
    refused(folder, code=2, says="SOURCE is missing", run=run_here)


def test_every_enumerated_flag_was_tried():
    texts = {f.name: f.help for group in FLAGS.flags_by_module_dict().values() for f in group}
    enumerated = {"scheme", "calibration", "weights", "granularity", "dense_granularity"}
    enumerated |= {"weight_bits", "quality", "int16"}
    enumerated |= {"equalization", "bias_correction", "input_type", "output_type", "crop"}
    assert enumerated <= set(texts)
    free = set(texts) - enumerated
    assert free == {
        *("data", "output", "input_range", "allow_float", "exclude", "signature", "batch"),
        *("workers", "scheduler", "cache", "split_output", "allow_code"),
        *("samples", "resize", "scale", "mean", "statistics", "statistics_out", "plan"),
        *("plan_out", "summary_json", "labels"),
    }


def test_permission_to_keep_nothing_float_is_a_warning(folder):
    said = converted(folder, "model.tflite", "--data=data.npz", "--allow_float=ERF")
    assert "WARNING" in said
    assert "'ERF' matches no op" in " ".join(said.split())


def test_statistics_that_are_none_or_of_another_model(folder):
    refused(
        folder,
        "model.tflite",
        "--data=data.npz",
        "--statistics=data.npz",
        code=1,
        says="damaged",
        run=run_here,
    )
    (folder / "other.tflite").write_bytes(cnn(seed=1))
    converted(folder, "other.tflite", "--data=data.npz", "--statistics_out=other.npz")
    refused(
        folder, "model.tflite", "--statistics=other.npz", code=1, says="another model", run=run_here
    )


@pytest.fixture
def plan(folder):
    converted(folder, "model.tflite", "--data=data.npz", "--plan_out=plan.json")
    return json.loads((folder / "plan.json").read_text())


def test_a_plan_of_another_model(folder, plan):
    net = Net()
    (folder / "other.tflite").write_bytes(net.bytes(net.op("RELU", net.input(1, 4), out="r")))
    says = ["made for another model", "It says nothing of"]
    refused(folder, "other.tflite", "--plan=plan.json", code=1, says=says, run=run_here)


def edited(plan, where, key, value):
    changed = json.loads(json.dumps(plan))
    place = changed
    for name in where:
        place = place[name]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return json.dumps(changed)


@pytest.mark.parametrize(
    ("where", "key", "value", "says"),
    [
        ((), "version", 99, "version"),
        ((), "ops", None, "'ops'"),
        (("tensors", "conv"), "scale", None, "int8 without a scale in 'tensors' at 'conv'"),
        (("tensors", "conv"), "scale", -1.0, "bad scale"),
        (("tensors", "conv"), "zero_point", 999, "zero point 999"),
        (("tensors", "conv"), "dtype", "int9", "unknown dtype 'int9'"),
        (("ops", "conv"), "mode", "fast", "unknown mode 'fast'"),
        (("inputs", "image"), "scale", None, "int8 without a scale in 'inputs' at 'image'"),
        (("inputs", "image"), "dtype", "int32", "int32, which is none of"),
        ((), "config", "int8", "no settings in 'config'"),
    ],
)
def test_a_plan_edited_into_nonsense(folder, plan, where, key, value, says):
    (folder / "edited.json").write_text(edited(plan, where, key, value))
    argv = ["model.tflite", "--data=data.npz", "--plan=edited.json"]
    refused(folder, *argv, code=2, says=says, run=run_here)


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        (("ops", "conv"), "mode", "lookup"),
        (("ops", "conv"), "mode", "inside"),
        (("ops", "conv"), "inputs", {"7": {"dtype": "int8", "scale": 1.0, "zero_point": 0}}),
        (("ops", "conv"), "inputs", {"1": {"dtype": "int8", "scale": [1, 2], "zero_point": 0}}),
        (("tensors",), "conv", None),
        (("ops",), "conv", None),
        (("inputs",), "image", None),
        (("outputs", "probabilities"), "dtype", "string"),
    ],
)
def test_a_plan_that_contradicts_the_model(folder, plan, where, key, value):
    (folder / "edited.json").write_text(edited(plan, where, key, value))
    done = run(folder, "model.tflite", "--plan=edited.json", "--output=out.tflite")
    assert done.returncode in (1, 2), done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (folder / "out.tflite").exists()


def test_a_truncated_plan(folder, plan):
    (folder / "cut.json").write_text((folder / "plan.json").read_text()[:500])
    refused(folder, "model.tflite", "--plan=cut.json", code=2, says="is not JSON", run=run_here)


@pytest.mark.parametrize("flag", ["--scheme=int16x8", "--exclude=conv", "--weights=mse"])
def test_options_that_a_replayed_plan_would_ignore(folder, plan, flag):
    says = flag.removeprefix("--").partition("=")[0]
    refused(
        folder,
        "model.tflite",
        "--data=data.npz",
        "--plan=plan.json",
        flag,
        code=2,
        says=says,
        run=run_here,
    )


# --- the machine ----------------------------------------------------------------------------------


def test_a_folder_that_takes_no_files(folder):
    refused(
        folder, "model.tflite", "--data=data.npz", "--output=/proc/out.tflite", code=1, says="/proc"
    )


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 KB, less than the model takes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command to make a small disk with")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(tmp_path, small_disk):
    (tmp_path / "model.tflite").write_bytes(cnn(size=12, classes=2000))
    np.savez(tmp_path / "data.npz", x0=np.ones((3, 12, 12, 2), np.float32))
    says = "the disk is full"
    for flag in ("--output=disk/out.tflite", "--plan_out=disk/plan.json"):
        refused(tmp_path, "model.tflite", "--data=data.npz", flag, code=1, says=says)
    assert list(small_disk.iterdir()) == []


def interrupted(folder, *argv, when):
    """Starts the command, sends Ctrl-C when `when()` holds, and returns how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tfq.convert", *argv],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    try:
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


def test_ctrl_c_during_calibration(folder):
    (folder / "slow.py").write_text(
        "import time, pathlib, numpy as np\n"
        "def samples():\n"
        "    for n in range(1000):\n"
        "        if n == 5:\n"
        "            pathlib.Path('started').touch()\n"
        "        yield [np.ones((1, 8, 8, 2), np.float32)]\n"
        "        time.sleep(0.02)\n"
    )
    argv = ["model.tflite", "--data=slow:samples", "--output=out.tflite", "--plan_out=plan.json"]
    ended = interrupted(folder, *argv, when=(folder / "started").exists)
    assert ended == (130, "", "error: interrupted.\n")
    names = {p.name for p in folder.iterdir()} - {"__pycache__"}
    assert names == {"model.tflite", "data.npz", "slow.py", "started"}


def commands_with(text):
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # It ended meanwhile.
        if text in words and "tfq.sources.worker" in words:
            found.append(words)
    return found


@pytest.mark.slow
def test_ctrl_c_while_tensorflow_converts(folder):
    source = str(ROOT / "examples" / "digits" / "saved_model")
    ended = interrupted(
        folder, source, "--output=out.tflite", when=lambda: commands_with(str(folder))
    )
    assert ended == (130, "", "error: interrupted.\n")
    deadline = time.monotonic() + 20  # A busy machine takes a while to end the child.
    while commands_with(str(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert commands_with(str(folder)) == []
    assert {p.name for p in folder.iterdir()} == {"model.tflite", "data.npz"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "graph.pb", "saved/saved_model.pb"])
def test_damaged_models_that_tensorflow_would_read(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"this is no model" * 20)
    source = "saved" if name.startswith("saved") else name
    refused(folder, source, "--scheme=dynamic", code=1, says=source)


def test_a_saved_model_without_such_a_signature(folder):
    source = ROOT / "examples" / "digits" / "saved_model"
    refused(folder, source, "--signature=predict", code=2, says=["predict", "serving_default"])


# --- the same from Python -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"source": 3}, UsageError, "Received: int"),
        ({"source": None}, UsageError, "Received: NoneType"),
        ({"source": b"no model"}, ModelError, "model"),
        ({"data": 3}, DataError, "Received"),
        ({"data": {"x0": "text"}}, DataError, "x0"),
        ({"data": []}, DataError, "no samples"),
        ({"scheme": 8}, UsageError, "Unknown scheme 8"),
        ({"calibration": 99.9}, UsageError, "Received: 99.9"),
        ({"weights": 3}, UsageError, "3"),
        ({"int16": True}, UsageError, "True"),
        ({"granularity": True}, UsageError, "True"),
        ({"bias_correction": False}, UsageError, "False"),
        ({"input_type": np.int8}, UsageError, "int8"),
        ({"input_range": 3}, UsageError, "Received: 3"),
        ({"input_range": ("a", "b")}, UsageError, "Received: ('a', 'b')"),
        ({"allow_float": 3}, UsageError, "Received: 3"),
        ({"exclude": [3]}, UsageError, "Received: [3]"),
        ({"rules": "conv"}, UsageError, "Received: 'conv'"),
        ({"rules": [LayerRule(regex="nowhere", activations="int16")]}, UsageError, "'nowhere'"),
        ({"signature": "serve"}, UsageError, "'serve'"),
        ({"batch": 2.0}, UsageError, "Received: 2.0"),
        ({"samples": "all"}, UsageError, "Received: 'all'"),
        ({"data_options": {"scale": 2}}, UsageError, "Received: {'scale': 2}"),
        ({"statistics": {}}, UsageError, "Received: {}"),
        ({"plan": 3}, UsageError, "Received: 3"),
        ({"progress": 3}, UsageError, "Received: 3"),
    ],
)
def test_wrong_arguments(arguments, error, says):
    given = {"source": cnn(), "data": images(), **arguments}
    with pytest.raises(TfqError) as caught:
        convert_model(given.pop("source"), given.pop("data"), **given)
    assert isinstance(caught.value, error)
    assert says in str(caught.value)


def test_one_string_is_one_pattern():
    result = convert_model(cnn(), images(), exclude="logits")
    assert [op.op for op in result.plan.float_ops.values()] == ["FULLY_CONNECTED"]


def test_a_layer_is_found_by_its_name_whatever_its_tensor_is_called():
    from tfq.plan import patterns
    from tfq.plan.scheme import Config

    graph = Model.from_bytes(cnn()).main
    config = Config(rules=patterns.exclude_rules(("digit",)), allow_float=("digit",))
    resolved = patterns.resolve(config, graph, {"logits": "head/digit"})
    patterns.check_rules(graph, resolved.rules, ["digit"], {})
    assert resolved.rules[0].matches("logits")
    assert not resolved.rules[0].matches("conv")
    assert patterns.resolve(config, graph, {}) == config


def test_errors_do_not_depend_on_the_order_of_runs():
    """A generator used up by a failed run is said to be used up, not taken for empty."""
    samples = ({"x0": x} for x in itertools.islice(images(), 3))
    convert_model(cnn(), samples)
    with pytest.raises(DataError, match="no samples"):
        convert_model(cnn(), samples)
