"""Labels of several outputs, in every form that data comes in."""

import numpy as np
import pytest

from tfq.data import open_data
from tfq.errors import DataError
from tfq.graph.interface import ArgSpec

SPECS = (ArgSpec("image", "image", (1, 4, 3), "float32"),)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 4, 3)).astype(np.float32)
BOX = RNG.normal(size=(10, 2)).astype(np.float32)
CLASS = RNG.integers(0, 5, 10)


def generator():
    for start in (0, 3, 6):
        some = slice(start, start + 3)
        yield X[some], {"box": BOX[some], "class": CLASS[some]}
    yield {"image": X[9], "y/box": BOX[9], "y/class": CLASS[9]}


FORMS = {
    "a dict of labels": {"image": X, "y": {"box": BOX, "class": CLASS}},
    "names": {"image": X, "y/box": BOX, "y/class": CLASS},
    "other names": {"image": X, "labels/box": BOX, "labels/class": CLASS},
    "a pair": (X, {"box": BOX, "class": CLASS}),
    "a pair of dicts": ({"image": X}, {"box": BOX, "class": CLASS}),
    "a list of pairs": [(x, {"box": b, "class": c}) for x, b, c in zip(X, BOX, CLASS, strict=True)],
    "a function": generator,
}


@pytest.fixture(params=[*FORMS, "a file", "a compressed file"])
def data(request, tmp_path):
    if request.param in FORMS:
        return FORMS[request.param]
    save = np.savez_compressed if "compressed" in request.param else np.savez
    save(tmp_path / "data.npz", **FORMS["names"])
    return tmp_path / "data.npz"


def test_blocks_and_samples_have_a_field_for_each_output(data):
    decoded = [b.decode() for b in open_data(data, SPECS).blocks(4)]
    labels = np.concatenate([d.labels for d in decoded])
    assert labels.dtype.names == ("box", "class")
    assert np.array_equal(labels["box"], BOX)
    assert np.array_equal(labels["class"], CLASS)
    assert np.array_equal(np.concatenate([d.inputs["image"] for d in decoded]), X)
    samples = list(open_data(data, SPECS))
    assert np.array_equal(np.concatenate([s.label["class"] for s in samples]), CLASS)
    assert np.array_equal(np.concatenate([s.label["box"] for s in samples]), BOX)


def test_labels_of_an_output_may_differ_in_shape():
    boxes = [np.ones((k, 5), np.float32) for k in (2, 0, 3)]
    pairs = [(X[i], {"boxes": b, "class": i}) for i, b in enumerate(boxes)]
    (block,) = open_data(lambda: iter(pairs), SPECS).blocks(8)
    labels = block.decode().labels
    assert isinstance(labels, list)
    assert [label["boxes"].shape for label in labels] == [(2, 5), (0, 5), (3, 5)]
    with pytest.raises(DataError, match=r"the label must have one shape"):
        list(open_data(lambda: iter(pairs), (ArgSpec("x", "x", (3, 4, 3), "float32"),)))


def test_an_input_may_look_like_a_label():
    specs = (*SPECS, ArgSpec("y/box", "y/box", (1, 2), "float32"))
    source = open_data({"image": X, "y/box": BOX, "y/class": CLASS}, specs)
    (block,) = source.blocks(16)
    assert block.decode().labels.dtype.names == ("class",)
    assert np.array_equal(block.decode().inputs["y/box"], BOX)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image": X, "y": CLASS, "y/box": BOX}, r"has both 'y' and 'y/box'.*y/OUTPUT"),
        ({"image": X, "y/box": BOX[:9], "y/class": CLASS}, r"of labels: 'box' 9, 'class' 10"),
        ({"image": X, "y/box": np.array(["a"] * 10)}, r"labels of 'box' have dtype <U1"),
        ({"image": X, "y": {"box": 3}}, r"labels of 'box' have dtype int64 and shape \(\)"),
        ({"image": X, "z/box": BOX}, r"has 'z/box', which is no input"),
        ([(X[0], {})], r"the label is an empty dict"),
        ([(X[0], {"a": "text"})], r"output 'a': the label cannot be read as numbers"),
        ([(X[:2], {"a": [1, 2, 3]})], r"output 'a': a batch of 2 samples needs 2 labels"),
    ],
)
def test_labels_that_do_not_belong_to_the_samples(data, message):
    with pytest.raises(DataError, match=message):
        list(open_data(data, SPECS))
