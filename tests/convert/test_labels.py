"""Labels for apps: what is written, what is refused, and that MediaPipe Tasks takes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from small_models import ACT, Net

from tfq.convert import convert_model
from tfq.convert.summary import lines
from tfq.data import DataOptions
from tfq.errors import DataError, UsageError
from tfq.graph.boundary import dequantized
from tfq.graph.metadata import METADATA, read_metadata
from tfq.graph.model import Model
from tfq.runtime import Runner

NAMES = ["cat", "dog", "äpfel", "dog", "fish"]
PIXELS = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3), np.uint8)
SAMPLES = (PIXELS[:20] / 127.5 - 1).astype(np.float32)
INSTALL = (
    "python3.11 -m venv DIR && DIR/bin/pip install mediapipe (and apt-get install libegl1 libgles2 "
    "libgl1 libglib2.0-0), then set TFQ_MEDIAPIPE_PYTHON=DIR/bin/python"
)


def classifier(channels=3, classes=5, batch=1):
    net = Net(0)
    x = net.input(batch, 16, 16, channels, name="image")
    a = net.conv(x, 8, act=ACT.RELU)
    return net.bytes(net.softmax(net.dense(net.mean(a), classes)))


def labelled(scheme="int8", data=SAMPLES, **choices):
    data = data if scheme.startswith("int") else None
    return convert_model(
        classifier(), data, scheme=scheme, quality="fast", **{"labels": NAMES, **choices}
    )


def test_an_integer_model_takes_pixels_and_says_why():
    result = labelled(input_range=(-1, 1))
    model = Model.from_bytes(result.model)
    assert [t.dtype for t in (*model.main.inputs, *model.main.outputs)] == ["uint8", "uint8"]
    assert model.files == {"labels.txt": "cat\ndog\näpfel\ndog\nfish\n".encode()}
    said = read_metadata(model)
    assert (said.inputs[0].color, said.inputs[0].mean) == ("RGB", ())
    assert [f.kind for f in said.outputs[0].files] == ["axis labels"]
    text = " ".join(" ".join(lines(result.summary)).split())
    assert "labels 5 in labels.txt, attached with TFLite metadata" in text
    assert "uint8 because MediaPipe Tasks refuses int8" in text
    assert not result.summary["warnings"]
    replayed = convert_model(classifier(), SAMPLES, labels=NAMES, plan=result.plan)
    assert replayed.model == result.model


def test_what_is_said_of_types_holds_and_is_warned_of():
    result = labelled(input_type="int8", output_type="float32")
    model = Model.from_bytes(result.model)
    assert [t.dtype for t in (*model.main.inputs, *model.main.outputs)] == ["int8", "float32"]
    assert "MediaPipe Tasks refuses int8" in result.summary["warnings"][0]


@pytest.mark.parametrize(
    ("choices", "mean", "std"),
    [
        (
            {
                "scheme": "dynamic",
                "data_options": DataOptions(mean=(1, 2, 3), scale=(1, 0.5, 0.25)),
            },
            (1, 2, 3),
            (1, 2, 4),
        ),
        ({"input_range": (-1, 1)}, (127.5,), (127.5,)),
        ({}, (127.5,), (127.5,)),  # Of the samples, from -1 to 1.
        ({"scheme": "float16", "data_options": DataOptions(scale=1 / 255)}, (0,), (255,)),
    ],
)
def test_a_float_input_has_its_normalization(choices, mean, std):
    given = {} if "scheme" in choices else {"input_type": "float32"}
    said = read_metadata(Model.from_bytes(labelled(**given, **choices).model))
    assert said.inputs[0].mean == pytest.approx(mean)
    assert said.inputs[0].std == pytest.approx(std)


def test_pixels_of_samples_decide_what_a_byte_means(tmp_path):
    for i, pixels in enumerate(PIXELS[:20] // 2 + 50):  # No black and no white.
        PIL.Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    options = DataOptions(mean=127.5, scale=1 / 127.5)
    result = labelled(data=tmp_path, data_options=options)
    (x,) = Model.from_bytes(result.model).main.inputs
    assert x.quant.scale == pytest.approx(2 / 255)
    assert not any("labels" in w for w in result.summary["warnings"])
    result = labelled(data=tmp_path, data_options=options, input_type="float32")
    (image,) = read_metadata(Model.from_bytes(result.model)).inputs
    assert (image.mean, image.std) == ((127.5,), (127.5,))
    result = labelled(data=SAMPLES * 0.3)
    assert any("--input_range=LO,HI" in w for w in result.summary["warnings"])


@pytest.mark.parametrize(
    ("model", "choices", "says"),
    [
        (classifier(classes=4), {}, "5 labels, but the model has 4 classes"),
        (classifier(batch=2), {}, r"takes \[2, 16, 16, 3\]. Leave labels out, or batch"),
        (classifier(channels=2), {}, r"takes \[1, 16, 16, 2\]"),
        (classifier(), {"scheme": "dynamic"}, "Give --mean and --scale"),
        (classifier(), {"data_options": DataOptions(scale=0)}, "a scale of 0"),
        (classifier(), {"labels": 5}, "labels is a file, or a list"),
    ],
)
def test_what_is_no_such_classifier_is_one_error(model, choices, says):
    with pytest.raises(UsageError, match=says):
        convert_model(model, None, **{"labels": NAMES, "scheme": "int8", **choices})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "label 1 is empty"),
        (b"a\n\nb\n", "label 2 is empty"),
        (b"a\n\xff\n", "not UTF-8 text"),
        (b"a\nb\0c\n", "label 2 is empty, or no line"),
        (None, "No such file"),
    ],
)
def test_damaged_label_files_are_one_error(tmp_path, content, says):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        convert_model(classifier(), SAMPLES, labels=path)


def test_the_command_takes_a_file(tmp_path):
    (tmp_path / "m.tflite").write_bytes(classifier())
    (tmp_path / "animals.txt").write_text("\r\n".join("abcde"))
    np.save(tmp_path / "x.npy", SAMPLES)
    command = "-m tfq.convert m.tflite --data=x.npy --labels=animals.txt --output=q.tflite"
    run = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    model = Model.from_bytes((tmp_path / "q.tflite").read_bytes())
    assert model.files == {"animals.txt": b"a\nb\nc\nd\ne\n"}
    assert read_metadata(model).name == "m"


@pytest.mark.slow
def test_mediapipe_tasks_gives_the_interpreters_scores(tmp_path):
    python = os.environ.get("TFQ_MEDIAPIPE_PYTHON")
    if not python:
        pytest.skip(f"no MediaPipe: {INSTALL}")
    names = list("abcde")
    options = DataOptions(mean=127.5, scale=1 / 127.5)
    source = labelled("float32", labels=names, data_options=options).model
    models = {
        "int8": labelled(labels=names).model,
        "int16x8": labelled("int16x8", labels=names).model,
        # Keeps what the source says.
        "kept": convert_model(source, SAMPLES, input_type="uint8", output_type="float32").model,
    }
    assert METADATA in Model.from_bytes(models["kept"]).metadata
    np.save(tmp_path / "pixels.npy", PIXELS)
    client = Path(__file__).with_name("mediapipe_client.py")
    for name, data in models.items():
        (tmp_path / "m.tflite").write_bytes(data)
        run = subprocess.run(
            [python, str(client), "m.tflite", "pixels.npy", "scores.json"],
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, run.stderr
        scores = json.loads((tmp_path / "scores.json").read_text())
        model, runner = Model.from_bytes(data), Runner(data)
        (x,), (y,) = model.main.inputs, model.main.outputs
        for pixels, found in zip(PIXELS, scores, strict=True):
            wanted = dequantized(model, runner.run({x.name: pixels[None]}))[y.name][0]
            assert np.array_equal(np.float32([found[n] for n in names]), np.float32(wanted)), name
