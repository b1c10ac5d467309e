"""Every script in examples/ runs, and its figures are what it says they show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
ROW = re.compile(r"^(\S.*?) +(Keras|LiteRT) +(\d+\.\d\d)%(?: +([\d,]+))?$", re.MULTILINE)
SAME = re.compile(r"same answer in Keras and LiteRT: (\d+\.\d\d)%")


def run(folder, script, *flags):
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not any(folder.iterdir())  # An example leaves nothing behind.
    return done.stdout


def table(out):
    """(model, where it runs) -> accuracy in percent, and (model, "bytes") -> size of its file."""
    found = {}
    for name, where, accuracy, size in ROW.findall(out):
        found[name, where] = float(accuracy)
        if size:
            found[name, "bytes"] = int(size.replace(",", ""))
    return found


def test_linear_regression(tmp_path):
    out = run(tmp_path, "linear_regression/quantize.py")
    weights = [float(w) for w in re.search(r"weights (.*) bias", out)[1].split()]
    assert weights == pytest.approx([1, 0, 0, -1, 0], abs=0.02)
    rows = re.findall(r"^(\w+) +(\d+) +([\d.]+)$", out, re.MULTILINE)
    loss = {name: float(value) for name, _, value in rows}
    assert set(loss) == {"float", "static", "dynamic"}
    assert 0.008 < loss["float"] < 0.013  # The noise's own: 0.01.
    # Static: the rounding of two inputs and of the output, each of the size of 0.0001.
    assert loss["float"] < loss["static"] < loss["float"] + 0.001
    assert abs(loss["dynamic"] - loss["float"]) < 0.001


def test_qat_digits(tmp_path):
    out = run(tmp_path, "training/qat_digits.py")
    found = table(out)
    assert found["float", "Keras"] > 97
    assert found["int8, trained", "Keras"] > found["float", "Keras"] - 1
    assert found["int8, trained", "LiteRT"] > found["float", "Keras"] - 1
    assert float(SAME.search(out)[1]) >= 99.5


@pytest.mark.skipif(
    not FASHION_MNIST.exists(), reason="needs apt-get install dataset-fashion-mnist"
)
def test_qat_fashion_mnist(tmp_path):
    flags = ("--train=3000", "--test=1000", "--epochs=3", "--qat_epochs=1")
    out = run(tmp_path, "training/qat_fashion_mnist.py", *flags)
    found = table(out)
    assert found["float", "Keras"] > 75
    for where in ("Keras", "LiteRT"):
        assert found["int8, trained", where] > found["float", "Keras"] - 2
    assert abs(found["int8, after training", "LiteRT"] - found["float", "Keras"]) < 5
    assert float(SAME.search(out)[1]) >= 99.5


def test_qat_fashion_mnist_says_what_to_install(tmp_path):
    script = ROOT / "examples" / "training" / "qat_fashion_mnist.py"
    done = subprocess.run(
        [sys.executable, str(script), f"--folder={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "apt-get install dataset-fashion-mnist" in done.stderr
    assert "Traceback" not in done.stderr


def test_prune_distill_quantize(tmp_path):
    out = run(tmp_path, "training/prune_distill_quantize.py")
    found = table(out)
    assert found["float", "Keras"] > 97
    for where in ("Keras", "LiteRT"):
        assert found["int8, all three", where] > found["float", "Keras"] - 1.5
    assert float(SAME.search(out)[1]) >= 99.5
    # 70 % of each kernel, counted in the int8 file; weights that are small may round to zero, too.
    layers = re.findall(r"^(\S+) +[\d,]+ +(\d+\.\d)% +\d+", out, re.MULTILINE)
    assert len(layers) == 6
    for name, zeros in layers:
        low, high = (0, 5) if "depthwise" in name else (69.9, 75)
        assert low <= float(zeros) < high, name
    size, packed = re.search(r"^size +([\d,]+) bytes, gzip ([\d,]+)$", out, re.MULTILINE).groups()
    assert int(packed.replace(",", "")) < int(size.replace(",", ""))
    assert float(re.search(r"([\d.]+) times with gzip", out)[1]) > 1.1


def test_low_bits(tmp_path):
    out = run(tmp_path, "training/low_bits.py")
    found = table(out)
    int8 = found["int8, after training", "LiteRT"]
    assert int8 > 97
    assert found["4 bits, trained", "LiteRT"] > int8 - 1.5
    assert found["4 bits, after training", "LiteRT"] > int8 - 3
    assert found["binary, trained", "LiteRT"] > int8 - 2
    # Corrected biases keep what these lose with 2 bits; one bit has to be trained.
    assert found["2 bits, after training", "LiteRT"] > int8 - 2
    for name in ("4 bits, after training", "4 bits, trained", "binary, trained"):
        assert found[name, "bytes"] < 0.8 * found["int8, after training", "bytes"], name
    assert all(float(same) >= 99.5 for same in SAME.findall(out))
    assert len(SAME.findall(out)) == 2
