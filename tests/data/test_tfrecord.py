import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image
from tfrecord_files import example, record

from tfq.data import ArgSpec, DataOptions, open_data, tfrecord
from tfq.data.crc32c import masked_crc32c
from tfq.errors import DataError

X = ArgSpec("x", "x:0", (1, 2, 3), "float32")
IMAGE = ArgSpec("image", "image:0", (1, 8, 8, 3), "float32")


@pytest.fixture
def write(tmp_path):
    def write(*examples, name="data.tfrecord"):
        path = tmp_path / name
        path.write_bytes(b"".join(map(record, examples)))
        return path

    return write


VALUES = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)


def test_floats_with_labels_and_other_features(write):
    path = write(*(example(x=v, label=i, width=7) for i, v in enumerate(VALUES)))
    source = open_data(path, [X])
    samples = list(source)
    assert source.has_labels
    assert source.count is None
    np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in samples]), VALUES)
    assert [s.label.tolist() for s in samples] == [[0], [1], [2], [3]]


@pytest.mark.parametrize("name", ["y", "label", "labels", "image/class/label"])
def test_names_of_labels(write, name):
    path = write(*(example(**{"x": v, name: i, "other": 7}) for i, v in enumerate(VALUES)))
    source = open_data(path, [X])
    assert source.has_labels
    assert [s.label.tolist() for s in source] == [[0], [1], [2], [3]]


def test_labels_of_several_numbers_and_labels_that_are_inputs(write):
    path = write(example(x=VALUES[0], y=[1.5, 2.5]), example(x=VALUES[1], y=[3, 4, 5]))
    assert [s.label.tolist() for s in open_data(path, [X])] == [[[1.5, 2.5]], [[3, 4, 5]]]
    inputs = [X, ArgSpec("labels", "labels:0", (1,), "int32")]
    source = open_data(write(example(x=VALUES[0], labels=3)), inputs)
    assert not source.has_labels
    assert next(iter(source)).inputs["labels"].tolist() == [3]


def test_a_later_record_without_label(write):
    path = write(example(x=VALUES[0], y=1), example(x=VALUES[1]))
    with pytest.raises(DataError, match=r"Sample 1 of data\.tfrecord has no label"):
        list(open_data(path, [X]))


def test_the_only_encoded_image_is_the_input(write):
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 51, np.uint8)).save(stream, "png")
    imagenet = {
        "image/encoded": stream.getvalue(),
        "image/class/label": 3,
        "image/class/text": b"fox",
        "image/height": 8,
    }
    spec = ArgSpec("in", "in:0", (1, 8, 8, 3), "float32")
    (sample,) = open_data(write(example(**imagenet)), [spec])
    assert sample.inputs[spec.name].shape == (1, 8, 8, 3)
    assert sample.label.tolist() == [3]
    imagenet["image/mask"] = stream.getvalue()
    with pytest.raises(DataError, match="no data for the model's input 'in'"):
        open_data(write(example(**imagenet)), [spec])


def test_integers_raw_values_and_raw_bytes(write):
    raw = [example(x=VALUES[0].tobytes()), example(x=bytes(range(6))), example(x=np.arange(6))]
    samples = list(open_data(write(*raw), [X]))
    np.testing.assert_array_equal(samples[0].inputs["x"][0], VALUES[0])
    np.testing.assert_array_equal(samples[1].inputs["x"].ravel(), np.arange(6))
    np.testing.assert_array_equal(samples[2].inputs["x"].ravel(), np.arange(6))


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_encoded_images(write, kind):
    value = np.full((16, 16, 3), 51, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(value).save(stream, kind)
    path = write(example(image=stream.getvalue(), y=3))
    (sample,) = open_data(path, [IMAGE], options=DataOptions(scale=1 / 255))
    np.testing.assert_allclose(sample.inputs["image"], 0.2, atol=0.01)
    assert sample.inputs["image"].shape == IMAGE.shape


def test_inputs_without_a_batch_are_taken_whole(write):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "png")
    inputs = [IMAGE, ArgSpec("size", "size:0", (2,), "float32")]
    path = write(*(example(image=buffer.getvalue(), size=[8.0, i], y=i) for i in range(3)))
    samples = list(open_data(path, inputs))
    np.testing.assert_array_equal(samples[1].inputs["image"], pixels[np.newaxis])
    assert [s.inputs["size"].tolist() for s in samples] == [[8, 0], [8, 1], [8, 2]]
    assert [s.label.tolist() for s in samples] == [[0], [1], [2]]


def test_gzip(write, tmp_path):
    path = tmp_path / "zipped.tfrecord.gz"
    path.write_bytes(gzip.compress(write(example(x=VALUES[0])).read_bytes()))
    assert len(list(open_data(path, [X]))) == 1


def test_shard_name(write):
    path = write(example(x=VALUES[0]), name="train.tfrecord-00000-of-00010")
    assert len(list(open_data(path, [X]))) == 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"x": np.zeros(5)}, "5 values; input 'x' takes 6"),
        ({"x": b"12345"}, "5 bytes, which are no JPEG or PNG.* are 24 bytes"),
        ({"v": np.zeros(6), "w": np.zeros(6)}, "no data for the model's input 'x'"),
        ({"x": np.zeros(6), "y": b"cat"}, "label is no number"),
        ({"x": np.full(6, np.nan)}, "Sample 0 of data.tfrecord.*6 NaN"),
        ({}, "no data"),
    ],
)
def test_records_that_do_not_fit(write, features, message):
    with pytest.raises(DataError, match=message):
        list(open_data(write(example(**features)), [X]))


@pytest.mark.parametrize("length", [2**20, 2**40, 2**62, 2**63, 2**64 - 1])
@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_a_length_beyond_the_file_is_damage_even_with_its_checksum(tmp_path, length, name):
    said = struct.pack("<Q", length)
    body = said + struct.pack("<I", masked_crc32c(said)) + b"too little"
    path = tmp_path / name
    path.write_bytes(gzip.compress(body) if name.endswith("gz") else body)
    with pytest.raises(DataError, match="it ends within the data"):
        list(open_data(path, [X]))


def test_a_record_of_several_pieces_is_read(write, monkeypatch):
    monkeypatch.setattr(tfrecord, "_PIECE_BYTES", 7)
    (sample,) = open_data(write(example(x=VALUES[0])), [X])
    np.testing.assert_array_equal(sample.inputs["x"], VALUES[:1])


def test_damage_never_goes_unseen(write):
    path = write(*(example(x=v) for v in VALUES))
    data = path.read_bytes()
    for length in range(len(data)):
        if length % (len(data) // 4) == 0:
            continue  # The end of a record: a shorter file, but a whole one.
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match="is damaged"):
            list(open_data(path, [X]))
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(DataError, match="is damaged"):
            list(open_data(path, [X]))


def test_empty_file_and_other_messages(write):
    with pytest.raises(DataError, match="no records"):
        open_data(write(), [X])
    with pytest.raises(DataError, match=r"is no tf\.Example"):
        open_data(write(b"\xff\xff\xff"), [X])


@pytest.mark.slow
def test_files_that_tensorflow_writes(tmp_path):
    import tensorflow as tf

    big = np.random.default_rng(0).normal(size=(3, 50_000)).astype(np.float32)
    path = tmp_path / "t.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i, value in enumerate(big):
            features = {
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=value)),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[-i])),
            }
            message = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(message.SerializeToString())
    samples = list(open_data(path, [ArgSpec("x", "x", (1, 50_000), "float32")]))
    np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in samples]), big)
    assert [s.label.item() for s in samples] == [0, -1, -2]
