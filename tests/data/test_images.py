import io

import numpy as np
import pytest
from PIL import Image

from tfq.data import ArgSpec, DataOptions, open_data
from tfq.data.images import ImageDecoder
from tfq.errors import DataError, UsageError

RGB = ArgSpec("x", "x:0", (1, 8, 8, 3), "float32")
GRAY = ArgSpec("x", "x:0", (1, 8, 8, 1), "float32")


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return stream.getvalue()


def pixels(shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def decode(array, shape=(8, 8, 3), **options):
    return ImageDecoder(shape, DataOptions(**options)).decode(png(array), "image")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("dog", "cat")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(4):
            value = pixels(seed=10 * number + i)
            (tmp_path / "set" / name / f"{i}.png").write_bytes(png(value))
    (tmp_path / "set" / "notes.txt").write_text("not an image")
    return tmp_path / "set"


def test_classes_by_sorted_name_and_pixels_kept(folder):
    source = open_data(folder, [RGB])
    samples = list(source)
    assert source.has_labels
    assert source.count == 8
    assert source.description == "set/, 8 samples"
    assert [s.label.item() for s in samples] == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(samples[1].inputs["x"][0], pixels(seed=11))


def test_limit_takes_from_all_classes(folder):
    source = open_data(str(folder), [RGB], limit=4)
    assert [s.label.item() for s in source] == [0, 0, 1, 1]


def test_flat_folder_has_no_labels(folder):
    source = open_data(folder / "cat", [RGB])
    assert not source.has_labels
    assert source.count == 4


def test_images_are_decoded_one_at_a_time(folder):
    (folder / "dog" / "3.png").write_bytes(b"damaged")
    iterator = iter(open_data(folder, [RGB]))
    for _ in range(7):
        next(iterator)
    with pytest.raises(DataError, match=r"dog/3.png cannot be read.*Remove or replace"):
        next(iterator)


def test_truncated_images(folder):
    file = folder / "cat" / "0.png"
    data = file.read_bytes()
    for length in range(0, len(data) - 20, 9):  # The last 20 bytes hold no pixels.
        file.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"0\.png"):
            next(iter(open_data(folder, [RGB])))


def test_grey_and_colour_follow_the_model():
    value = pixels()
    gray = np.asarray(Image.fromarray(value).convert("L"))
    np.testing.assert_array_equal(decode(value, (8, 8, 1))[..., 0], gray)
    np.testing.assert_array_equal(decode(value, (8, 8)), gray)
    np.testing.assert_array_equal(decode(gray), np.repeat(gray[..., None], 3, -1))
    np.testing.assert_array_equal(decode(value, color="gray"), np.repeat(gray[..., None], 3, -1))
    np.testing.assert_array_equal(decode(value, (3, 8, 8)), np.moveaxis(value, -1, 0))
    assert decode(value, (8, 8, 4)).shape == (8, 8, 4)


def test_sixteen_bit_images_are_scaled():
    value = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    np.testing.assert_array_equal(decode(value, (8, 8, 1))[..., 0], value >> 8)


def test_scale_and_mean():
    value = pixels()
    result = decode(value, scale=1 / 127.5, mean=127.5)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, value / 127.5 - 1, atol=1e-6)
    mean, scale = (1, 2, 3), (0.1, 0.2, 0.3)
    expected = (value - np.array(mean)) * scale
    np.testing.assert_allclose(decode(value, scale=scale, mean=mean), expected, atol=1e-4)


def test_crop_none_stretches():
    value = np.zeros((16, 32, 3), np.uint8)
    value[:, 16:] = 200
    result = decode(value)
    assert result.shape == (8, 8, 3)
    assert (result[:, :3] == 0).all()
    assert (result[:, 5:] == 200).all()


def test_crop_center_keeps_proportions():
    value = np.zeros((8, 16, 3), np.uint8)
    value[:, 4:12] = 200
    assert (decode(value, crop="center") == 200).all()


def test_resize_then_crop():
    value = pixels((12, 12, 3))
    np.testing.assert_array_equal(decode(value, resize=(12, 12), crop="center"), value[2:10, 2:10])


def test_crop_pad_keeps_everything():
    result = decode(np.full((4, 8, 3), 200, np.uint8), crop="pad")
    assert (result[2:6] == 200).all()
    assert (result[:2] == 0).all()
    assert (result[6:] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "centre"}, "Did you mean 'center'"),
        ({"color": "grey"}, "Did you mean 'gray'"),
        ({"resize": (0, 3)}, r"Received: \(0, 3\)"),
        ({"scale": "big"}, "Received: 'big'"),
        ({"mean": float("nan")}, "mean takes a number"),
        ({"mean": (1, 2)}, "2 values for images of 3 channels"),
        ({"resize": (9, 9)}, "crop='center'"),
        ({"resize": (7, 9), "crop": "center"}, "smaller than the model's size"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(UsageError, match=message):
        decode(pixels(), **options)


def test_rgb_needs_three_channels():
    with pytest.raises(UsageError, match="has 1"):
        decode(pixels(), (8, 8, 1), color="rgb")


def test_inputs_that_are_no_images(folder):
    with pytest.raises(DataError, match=r"takes \(10,\)"):
        open_data(folder, [ArgSpec("x", "x", (1, 10), "float32")])
    with pytest.raises(DataError, match="2 inputs"):
        open_data(folder, [RGB, ArgSpec("b", "b", (1, 8, 8, 3), "float32")])


def test_empty_folders(tmp_path):
    with pytest.raises(DataError, match="no images; it has nothing"):
        open_data(tmp_path, [RGB])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match="no images; it has 1 other"):
        open_data(tmp_path, [RGB])


def test_images_beside_folders_are_refused(folder):
    (folder / "top.png").write_bytes(png(pixels()))
    with pytest.raises(DataError, match="both directly in it"):
        open_data(folder, [RGB])
