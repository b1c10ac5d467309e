"""What is wrong is said before TensorFlow is started for it."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_models import cnn

from tfq.convert import convert_model
from tfq.convert.arguments import int16_share
from tfq.convert.quality import choose_improvements, get_quality
from tfq.data import DataOptions
from tfq.errors import DataError, TfqError, UsageError
from tfq.evaluate.run import evaluate_model
from tfq.improve.int16 import WidenLayers
from tfq.sources import certainly_untrained, client

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits" / "saved_model"


class StartedError(Exception):
    """The worker was started."""


@pytest.fixture(autouse=True)
def no_tensorflow(monkeypatch):
    def start(*_):
        raise StartedError

    monkeypatch.setattr(client, "run_worker", start)


@pytest.fixture
def model(tmp_path):
    """A SavedModel without samples."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "net", ignore=lambda *_: ["assets.extra"]))


@pytest.fixture
def data(tmp_path):
    """Data of every kind that is wrong, by what is said of it."""
    np.savez(tmp_path / "good.npz", image=np.zeros((4, 8, 8, 1), np.float32))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:-30])
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object))
    (tmp_path / "empty.csv").write_text("path,label\n")
    (tmp_path / "cut.tfrecord").write_bytes(b"123")
    (tmp_path / "no_images").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


WRONG = [
    ("missing.npz", "There is no data at"),
    ("cut.npz", "cut.npz"),
    ("objects.npy", "Python objects"),
    ("empty.csv", "lists no images"),
    ("cut.tfrecord", "cut.tfrecord"),
    ("no_images", "has no images"),
    ("notes.txt", "of no known kind"),
]


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_wrong_data(model, data, name, message):
    with pytest.raises(DataError, match=message):
        convert_model(model, data / name)
    with pytest.raises(DataError, match=message):
        evaluate_model(model, data / name)
    with pytest.raises(DataError, match=message):
        evaluate_model(model, data / "good.npz", second_data=data / name)


def test_no_module_of_that_name_and_options_of_images(model, data):
    with pytest.raises(UsageError, match="There is no module 'no_such_module'"):
        convert_model(model, "no_such_module:samples")
    with pytest.raises(UsageError, match="holds no images"):
        convert_model(model, data / "good.npz", data_options=DataOptions(scale=0.1))
    with pytest.raises(UsageError, match="at least 1"):
        evaluate_model(model, data / "good.npz", samples=0)


def test_damaged_samples_inside_the_model(model):
    (model / "assets.extra").mkdir()
    (model / "assets.extra" / "tfq_representative_data.npz").write_bytes(b"x")
    with pytest.raises(DataError, match="tfq_representative_data"):
        convert_model(model)


def test_no_data_at_all(model):
    with pytest.raises(UsageError, match="needs representative samples"):
        convert_model(model)
    with pytest.raises(StartedError):  # It needs none.
        convert_model(model, scheme="dynamic", cache="none")


def test_a_model_that_may_hold_trained_ranges_is_looked_into(model):
    content = (model / "saved_model.pb").read_bytes()
    (model / "saved_model.pb").write_bytes(content + b"FakeQuantWithMinMaxVars")
    with pytest.raises(StartedError):
        convert_model(model, cache="none")


def test_other_files_of_an_evaluation_are_read_first(model, data):
    (data / "cut.tflite").write_bytes(cnn()[:500])
    with pytest.raises(TfqError, match=r"cut\.tflite"):
        evaluate_model([model, data / "cut.tflite"], data / "good.npz", cache="none")
    with pytest.raises(UsageError, match="There is no model at"):
        evaluate_model(model, data / "good.npz", reference=data / "none.keras")


def test_no_such_signature(model, data):
    with pytest.raises(UsageError, match=r"has: serve, serving_default\. Did you mean"):
        convert_model(model, data / "good.npz", signature="serving_defalt")
    with pytest.raises(UsageError, match="it has: serve, serving_default"):
        evaluate_model(model, data / "good.npz", signature="other")
    with pytest.raises(StartedError):
        convert_model(model, data / "good.npz", signature="serving_default", cache="none")


def test_what_says_that_nothing_was_trained(tmp_path):
    for trained in (False, True):
        word = "QuantizeWrapperV2" if trained else "Dense"
        with zipfile.ZipFile(tmp_path / "net.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", f'{{"class_name": "{word}"}}')
        for name in ("net.h5", "net.pb"):
            (tmp_path / name).write_bytes(b"\x89" + word.encode())
        for name in ("net.keras", "net.h5", "net.pb"):
            assert certainly_untrained(tmp_path / name) != trained
    (tmp_path / "net.keras").write_bytes(b"no archive")
    (tmp_path / "net.tflite").write_bytes(b"")
    for undecided in (tmp_path / "net.keras", tmp_path / "net.tflite", b"", object()):
        assert not certainly_untrained(undecided)
    with pytest.raises(UsageError, match="There is no model"):
        certainly_untrained(tmp_path / "none.h5")


@pytest.mark.parametrize("wrong", ["auto:0", "auto:101", "auto:much", "some", "auto:nan", "", 16])
def test_int16_is_none_or_auto_with_a_share(wrong):
    with pytest.raises(UsageError, match="int16 is auto, auto:PERCENT"):
        convert_model(cnn(), int16=wrong)


def test_int16_widens_layers_of_8_bits():
    with pytest.raises(UsageError, match="int16=auto widens layers of 8 bits"):
        convert_model(cnn(), int16="auto", scheme="int16x8")
    assert int16_share(None, "auto", "int16x8") == 0.0
    assert int16_share(None, "auto", "int8") == 0.1
    assert int16_share("auto:25", "none", "int8") == 0.25
    assert int16_share("none", "auto", "int8") == 0.0


def test_int16_needs_samples_and_a_model_that_was_not_trained_for_its_types():
    with pytest.raises(UsageError, match="int16=auto: there are no samples"):
        convert_model(cnn(), "synthetic", int16="auto")
    result = convert_model(cnn(), "synthetic", quality="best")
    assert "int16" not in result.summary["improvements"]
    options = {"calibration": "minmax", "weights": "minmax", "equalization": "none"}
    options |= {"bias_correction": "none", "fresh": True, "synthetic": False, "trained": True}
    with pytest.raises(UsageError, match="trained with its quantizers"):
        choose_improvements(get_quality("best"), int16=0.1, int16_asked=True, **options)
    assert choose_improvements(get_quality("best"), int16=0.1, **options) == []
    options |= {"trained": False}
    for asked in (False, True):
        found = choose_improvements(get_quality("best"), int16=0.1, int16_asked=asked, **options)
        # An app that feeds int8 would break: types outside change only for who asks for 16 bits.
        assert found[-1] == WidenLayers(0.1, outside=asked)
