"""`python -m tfq.evaluate`, as a person calls it."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from classifiers import classifier, labelled
from small_models import Net

from tfq.evaluate.metrics.resizing import resized
from tfq.report import check
from tfq.runtime import Runner


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("evaluate")
    source, int8 = classifier()
    (place / "float.tflite").write_bytes(source)
    (place / "int8.tflite").write_bytes(int8)
    np.savez(place / "test.npz", **labelled())
    (place / "notes.py").write_text("value = 3\n")
    return place


def evaluate(folder, *flags):
    return subprocess.run(
        [sys.executable, "-m", "tfq.evaluate", *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_one_command_one_page(folder):
    done = evaluate(
        folder,
        *("float.tflite", "int8.tflite", "--data=test.npz", "--report=page.html"),
        *("--json=report.json", "--node_data=nodes", "--layer_samples=8", "--probes=32"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "top-1 accuracy" in done.stdout
    report = json.loads((folder / "report.json").read_bytes())
    check(report)
    assert report["command"].startswith("python -m tfq.evaluate float.tflite int8.tflite --data=")
    assert "--layer_samples=8" in report["command"]
    page = (folder / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "int8.tflite" in page
    assert (folder / "nodes" / "int8.tflite.json").exists()


def test_the_command_on_the_page_has_every_flag(folder):
    from PIL import Image

    rng = np.random.default_rng(0)
    net = Net()
    h = net.conv(net.input(1, 8, 8, 3), 3)
    model = net.bytes(net.softmax(net.dense(net.mean(h, out="m"), 2, out="l"), out="p"))
    (folder / "photo.tflite").write_bytes(model)
    for name in "ab":
        (folder / "photos" / name).mkdir(parents=True)
        pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name / "x.png")
    flags = ("--mean=127.5", "--scale=0.00784", "--crop=center", "--probes=2", "--nolayers")
    done = evaluate(folder, "photo.tflite", "--data=photos", "--json=one.json", *flags)
    assert done.returncode == 0, done.stderr
    first = json.loads((folder / "one.json").read_bytes())
    assert all(f in first["command"] for f in (*flags[:4], "--data=photos"))
    again = shlex.split(first["command"])[3:]
    done = evaluate(folder, *(a.replace("one.json", "two.json") for a in again))
    second = json.loads((folder / "two.json").read_bytes())
    assert {**first, "command": ""} == {**second, "command": ""}


def test_masks_beside_images(folder):
    from PIL import Image
    from sklearn.metrics import jaccard_score

    rng = np.random.default_rng(0)
    net = Net()
    x = net.input(1, 12, 12, 3)
    model = net.bytes(net.conv(net.conv(x, 6), 4, out="scores"))
    (folder / "segment.tflite").write_bytes(model)
    runner, found, masks = Runner(model), [], []
    for i in range(6):
        pixels = rng.integers(0, 256, (12, 12, 3)).astype(np.uint8)
        given = {x.name: pixels[None].astype(np.float32) / 255}
        (scores,) = runner.run(given).values()
        found.append(resized(scores[0], (12, 12)).argmax(-1))
        masks.append(np.where(rng.random((12, 12)) < 0.6, found[-1], rng.integers(0, 4, (12, 12))))
        masks[-1][0] = 255
        for place, array in (("images", pixels), ("masks", masks[-1].astype(np.uint8))):
            (folder / "scenes" / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / "scenes" / place / f"{i}.png")
    done = evaluate(
        folder,
        *("segment.tflite", "--data=scenes", f"--scale={1 / 255}", "--json=seg.json"),
        *("--report=seg.html", "--probes=2"),
    )
    assert done.returncode == 0, done.stderr
    assert "segmentation on output y0 (label 255 is ignored)" in " ".join(done.stdout.split())
    assert "class 3 (" in done.stdout
    report = json.loads((folder / "seg.json").read_bytes())
    check(report)
    truth, got = np.stack(masks), np.stack(found)
    counted = truth != 255
    values = {m["name"]: m["values"][0]["value"] for m in report["metrics"]}
    each = jaccard_score(truth[counted], got[counted], average=None)
    assert values["miou"] == pytest.approx(100 * each.mean())
    assert values["pixel_accuracy"] == pytest.approx(100 * np.mean((truth == got)[counted]))
    (classes,) = report["segmentation"]
    assert (classes["pixels"], classes["ignored"]) == (6 * 11 * 12, 6 * 12)
    assert [c["values"][0]["iou"] for c in classes["classes"]] == pytest.approx(list(100 * each))
    done = evaluate(folder, "segment.tflite", "--data=scenes", "--ignore_index=-1")
    assert done.returncode == 1
    assert "The label of sample 0 is 255 at row 0" in done.stderr


def test_files_are_written_though_nobody_reads_the_lines(folder):
    command = (
        f"{sys.executable} -m tfq.evaluate float.tflite int8.tflite --data=test.npz --probes=0 "
        "--nolayers --report=piped.html | head -1"
    )
    done = subprocess.run(command, cwd=folder, shell=True, capture_output=True, timeout=120)
    assert b"verdict" in done.stdout
    assert (folder / "piped.html").exists()


def test_without_tensorflow(folder):
    code = (
        "import sys\nfrom tfq.evaluate import main\n"
        "main(['float.tflite', 'int8.tflite', '--data=test.npz', '--probes=0'])\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ((), 2, "MODEL is missing"),
        (("int8.tflite",), 2, "--data is missing"),
        (("int9.tflite", "--data=test.npz"), 2, "no model at int9.tflite. Did you mean 'int8"),
        (("int8.tflite", "--data=tset.npz"), 1, "no data at 'tset.npz'"),
        (("int8.tflite", "--data=test.npz", "--metrics=psnr"), 2, "'psnr' does not fit"),
        (("int8.tflite", "--data=test.npz", "--metrics=notes:value"), 2, "not callable"),
        (("int8.tflite", "--data=test.npz", "--task=regresion"), 2, "'regression'"),
        (("int8.tflite", "--data=test.npz", "--report=no/page.html"), 2, "no/page.html"),
        (("int8.tflite", "--data=test.npz", "--report=test.npz"), 2, "the data itself"),
        (("int8.tflite", "--data=test.npz", "--json=int8.tflite"), 2, "one of the models"),
        (("int8.tflite", "--data=test.npz", "--plots=test.npz"), 2, "is a file"),
        (("int8.tflite", "--data=test.npz", "--workers=0"), 2, "Received: 0"),
        (("int8.tflite", "--data=test.npz", "--layer=false"), 2, "--layers"),
        (("test.npz", "--data=test.npz"), 2, "test.npz"),
        (
            ("int8.tflite", "--data=test.npz", "--scheduler=tcp://127.0.0.1:9"),
            2,
            "tcp://127.0.0.1:9",
        ),
    ],
)
def test_mistakes_are_one_error(folder, flags, code, message):
    before = sorted(p.name for p in folder.iterdir())
    done = evaluate(folder, *flags)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == [
        n for n in before if n != "__pycache__"
    ]
