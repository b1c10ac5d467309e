"""TFLite metadata and the files attached to a model: kept by every scheme, and shown."""

import io
import re
import zipfile

import numpy as np
import pytest
from small_models import cnn

from tfq.convert import convert_model
from tfq.errors import ModelError
from tfq.graph.classifier_metadata import classifier_metadata
from tfq.graph.describe import describe
from tfq.graph.metadata import METADATA, metadata_warnings, read_metadata
from tfq.graph.model import Model
from tfq.inspect import render
from tfq.runtime import Runner

LABELS = b"zero\none\ntwo\n"
SAID = classifier_metadata("cnn", "labels.txt", channels=3, mean=[127.5], std=[63.75])


def with_metadata(files=True):
    """The bytes of a float model, with metadata and a zip as other writers append it."""
    model = Model.from_bytes(cnn())
    model.metadata[METADATA] = SAID
    whole = io.BytesIO(model.to_bytes())
    if files:
        with zipfile.ZipFile(whole, "a") as archive:
            archive.writestr("labels.txt", LABELS)
    return whole.getvalue()


def files_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        return [(i.filename, archive.read(i)) for i in archive.infolist()]


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "dynamic", "float16", "float32"])
def test_a_source_keeps_them(scheme):
    source = with_metadata()
    x = Model.from_bytes(source).main.inputs[0]
    samples = np.random.default_rng(0).standard_normal((4, *x.shape[1:])).astype(np.float32)
    data = samples if scheme.startswith("int") else None
    result = convert_model(source, data, scheme=scheme, quality="fast")
    said = any("MediaPipe Tasks refuses int" in w for w in result.summary["warnings"])
    assert said == scheme.startswith("int")
    assert files_of(result.model) == [("labels.txt", LABELS)]
    assert Model.from_bytes(result.model).metadata[METADATA] == SAID
    replayed = convert_model(source, data, scheme=scheme, plan=result.plan)
    assert replayed.model == result.model
    if scheme == "float32":  # tfq's own output is a source too, and gets no second copy.
        assert files_of(convert_model(result.model, scheme=scheme).model) == files_of(result.model)


def test_bytes_are_stable_and_run_as_without_them():
    source = with_metadata()
    model = Model.from_bytes(source)
    assert model.to_bytes() == Model.from_bytes(model.to_bytes()).to_bytes()
    x = {model.main.inputs[0].name: np.ones(model.main.inputs[0].shape, np.float32)}
    for kernels in ("xnnpack", "builtin", "reference"):
        plain, whole = (Runner(b, kernels=kernels).run(x) for b in (cnn(), source))
        assert all(np.array_equal(plain[n], whole[n]) for n in plain)


def test_constants_that_look_like_an_archive_are_constants():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a", b"b")
    model = Model.from_bytes(cnn())
    model.metadata["zip"] = archive.getvalue()
    assert Model.from_bytes(model.to_bytes()).files == {}
    model.files["labels.txt"] = LABELS
    again = Model.from_bytes(model.to_bytes())
    assert (again.files, again.metadata["zip"]) == (model.files, archive.getvalue())


def test_reads_what_was_written():
    said = read_metadata(Model.from_bytes(with_metadata()))
    (image,), (score,) = said.inputs, said.outputs
    assert (said.name, image.content, image.color) == ("cnn", "image", "RGB")
    assert (image.mean, image.std) == ((127.5,), (63.75,))
    assert [(f.name, f.kind) for f in score.files] == [("labels.txt", "axis labels")]


def test_inspect_shows_them():
    model = Model.from_bytes(with_metadata())
    model.files["notes.txt"] = b"12345"
    text = render("m", describe(model.to_bytes()))
    assert "metadata cnn, Image classifier." in text
    assert re.search("in +image +image RGB +mean 127.5, std 63.75 +Image to classify", text)
    assert re.search("file +labels.txt +axis labels +13 bytes", text)
    assert "attached files\n  file  notes.txt  5 bytes" in text


def test_files_that_are_missing_are_named():
    cut = with_metadata(files=False)
    (warning,) = metadata_warnings(Model.from_bytes(cut))
    assert "names labels.txt, which the file does not hold" in warning
    assert re.search("labels.txt +axis labels +missing", render("m", describe(cut)))
    result = convert_model(cut, scheme="float32")
    assert warning in result.summary["warnings"]


def test_damaged_archives_are_one_error():
    source = with_metadata()
    start = source.index(b"PK\3\4")
    rng = np.random.default_rng(0)
    errors = []
    for at in rng.choice(np.arange(start, len(source)), 60):
        bad = bytearray(source)
        bad[at] ^= 0xFF
        try:
            Model.from_bytes(bytes(bad))
        except ModelError as e:
            errors.append(str(e))
    assert len(errors) > 20
    assert all("the files attached to it" in e for e in errors)


def test_an_archive_that_would_not_fit_is_refused():
    whole = io.BytesIO(cnn())
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_DEFLATED) as archive:
        for i in range(2):
            archive.writestr(str(i), bytes(1 << 20))
    data = whole.getvalue()
    start = data.index(b"PK\1\2")
    lies = data[start:].replace((1 << 20).to_bytes(4, "little"), (1 << 30).to_bytes(4, "little"))
    with pytest.raises(ModelError, match="would take 2,147,483,648 bytes"):
        Model.from_bytes(data[:start] + lies)


def test_damaged_metadata_is_a_warning_and_ends():
    model = Model.from_bytes(with_metadata())
    rng = np.random.default_rng(1)
    damaged = 0
    for at in range(len(SAID)):
        bad = bytearray(SAID)
        bad[at] = rng.integers(256)
        model.metadata[METADATA] = bytes(bad)
        try:
            read_metadata(model)
        except ModelError:
            damaged += 1
            assert "damaged" in metadata_warnings(model)[0]
    assert damaged > 20
    model.metadata[METADATA] = SAID[:40]
    assert "The model's TFLite metadata is damaged" in render("m", describe(model.to_bytes()))
