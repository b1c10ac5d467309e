import numpy as np
import pytest
from PIL import Image

from tfq.data import ArgSpec, DataOptions, open_data
from tfq.errors import DataError, UsageError

RGB = ArgSpec("x", "x:0", (1, 4, 4, 3), "float32")


@pytest.fixture
def folder(tmp_path):
    """Four images, of which number i is all i, below a folder that holds list.csv."""
    for i, name in enumerate(["cats/0.png", "cats/1.png", "dogs/0, old.png", "2.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / name)
    return tmp_path


def read(folder, text, limit=None, encoding="utf-8"):
    (folder / "list.csv").write_bytes(text.encode(encoding))
    return open_data(folder / "list.csv", [RGB], limit=limit)


def contents(source):
    samples = list(source)
    return [s.inputs["x"].max() for s in samples], [s.label.item() for s in samples]


@pytest.mark.parametrize(
    "text",
    [
        "dogs/0, old.png,dog\ncats/1.png,cat\n2.png,dog\n".replace(
            "dogs/0, old.png", '"dogs/0, old.png"'
        ),
        'path,label\n"dogs/0, old.png",dog\ncats/1.png,cat\n2.png,dog',
        '\ufeffid,Class,FileName\n7,dog,"dogs/0, old.png"\n8,cat,cats/1.png\n9,dog,2.png\n',
        'image, y\r\n"dogs/0, old.png", dog\r\n\r\ncats/1.png, cat\r\n./2.png, dog\r\n',
    ],
)
def test_names_are_numbered_in_sorted_order(folder, text):
    source = read(folder, text)
    assert source.class_names == ("cat", "dog")
    assert source.has_labels
    assert source.repeatable
    assert source.description == "list.csv, 3 samples"
    assert contents(source) == ([2, 1, 3], [1, 0, 1])


def test_numbers(folder):
    source = read(folder, "2.png,5\ncats/1.png,-1\ncats/0.png,007\n")
    assert contents(source) == ([3, 1, 0], [5, -1, 7])
    assert source.class_names is None
    source = read(folder, "2.png,5\ncats/1.png,2.5e-1\n")
    assert contents(source) == ([3, 1], [5.0, 0.25])
    assert source.class_names is None


def test_absolute_paths_and_files_listed_twice(folder):
    source = read(folder, f"{folder}/2.png,a\n2.png,b\n")
    assert contents(source) == ([3, 3], [0, 1])


def test_limit_takes_evenly(folder):
    lines = "cats/0.png,a\nnone.png,b\n2.png,c\nnone.png,c\n"
    source = read(folder, lines, limit=2)
    assert contents(source) == ([0, 3], [0, 2])
    assert source.class_names == ("a", "b", "c")  # Those of the file, whatever is read.
    with pytest.raises(DataError, match="2 of 4 images are missing, the first in line 2"):
        read(folder, lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no images"),
        ("path,label\n", "lists no images"),
        ("2.png,a\n2.png\n", r"list\.csv, line 2: it has 1 columns instead of 2"),
        ("2.png,a,b\n", "line 1: it has 3 columns instead of 2"),
        ("path,label\n\n2.png,\n", "line 3: it has no label"),
        ("path,label\n,a\n", "line 2: it has no path"),
        ("path,kind\n2.png,a\n", "no column of labels; it has path, kind"),
        ("2.png,1\ncats/0.png,cat\n", "line 2: the label of the first image is a number.*'cat'"),
        ("2.png,a\ncats/0.png,7\n", "line 2: the label of the first image is a name.*'7'"),
        ("img,kind\n2.png,a\n", "1 of 2 images are missing.*line 1: img.*If that is a header"),
        ("2.png,a\nx.png,a\ny.png,b\n", r"2 of 3 images are missing, the first in line 2: x\.png"),
        ('2.png,"a\n', "line 1: unexpected end of data"),
    ],
)
def test_lines_that_cannot_be_read(folder, text, message):
    with pytest.raises(DataError, match=message):
        read(folder, text)


def test_files_that_are_no_text(folder):
    with pytest.raises(DataError, match="is not text in UTF-8"):
        read(folder, "2.png,ä\n", encoding="latin-1")


def test_images_damaged_or_gone_later(folder):
    source = read(folder, "2.png,a\ncats/0.png,b\n")
    (folder / "2.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        list(source)
    (folder / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png cannot be read: No such file"):
        list(source)
    with pytest.raises(DataError, match=r"2\.png cannot be read: No such file"):
        next(source.blocks(2))


def test_models_and_options(folder):
    (folder / "list.csv").write_text("2.png,a\n")
    source = open_data(str(folder / "list.csv"), [RGB], options=DataOptions(scale=0.5))
    assert contents(source) == ([1.5], [0])
    with pytest.raises(DataError, match=r"list\.csv lists images and the model has 2 inputs"):
        open_data(folder / "list.csv", [RGB, ArgSpec("b", "b", (1, 2), "float32")])
    with pytest.raises(DataError, match="The model takes"):
        open_data(folder / "list.csv", [ArgSpec("b", "b", (1, 2), "float32")])
    with pytest.raises(UsageError, match="2 values for images of 3 channels"):
        open_data(folder / "list.csv", [RGB], options=DataOptions(mean=(1, 2)))


def test_class_names_of_folders(folder):
    (folder / "2.png").unlink()
    (folder / "birds").mkdir()
    (folder / ".cache").mkdir()
    source = open_data(folder, [RGB])
    assert source.class_names == ("birds", "cats", "dogs")  # Empty ones count, as in Keras.
    assert contents(source) == ([0, 1, 2], [1, 1, 2])
    assert open_data(folder / "cats", [RGB]).class_names is None
    assert open_data(np.zeros((2, 4, 4, 3)), [RGB]).class_names is None


@pytest.mark.slow
def test_classes_are_those_of_keras(folder):
    import keras

    (folder / "2.png").unlink()
    (folder / "birds").mkdir()
    (folder / "Zebras").mkdir()
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(4, 4), batch_size=None, shuffle=False
    )
    source = open_data(folder, [RGB])
    assert list(source.class_names) == dataset.class_names
    assert [s.label.item() for s in source] == [int(y) for _, y in dataset]


@pytest.fixture
def masked(tmp_path):
    """Two images and masks of 2 by 2 blocks, one grey and one with a palette."""
    numbers = np.array([[0, 3], [255, 1]], np.uint8).repeat(2, 0).repeat(2, 1)
    for i, name in enumerate(("a", "b")):
        for place in ("images", "masks"):
            (tmp_path / place).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / "images" / f"{name}.jpg")
        mask = Image.fromarray(numbers + 0 * i, mode=None)
        if i:
            mask = mask.convert("P")
            mask.putdata(numbers.ravel())
            mask.putpalette(np.random.default_rng(0).bytes(768))
        mask.save(tmp_path / "masks" / f"{name}.png")
    return tmp_path, numbers


@pytest.mark.parametrize(
    "text",
    [
        "images/a.jpg,masks/a.png\nimages/b.jpg,masks/b.png\n",
        "id,mask_path,path\n1,masks/a.png,images/a.jpg\n2,masks/b.png,images/b.jpg\n",
        None,
    ],
)
def test_masks_are_class_maps(masked, text):
    folder, numbers = masked
    source = open_data(folder, [RGB]) if text is None else read(folder, text)
    assert source.has_labels
    assert source.class_names is None
    samples = list(source)
    assert [s.inputs["x"].max() for s in samples] == [0, 1]
    (block,) = source.blocks(8)
    for labels in (np.concatenate([s.label for s in samples]), block.decode().labels):
        assert labels.dtype == np.int32
        assert np.array_equal(labels, np.stack([numbers, numbers]))


def test_masks_are_resized_cropped_and_padded_as_images(masked):
    folder, numbers = masked
    Image.fromarray(numbers.repeat(4, 0).repeat(4, 1)).save(folder / "masks" / "a.png")
    wide = numbers.repeat(2, 1)
    Image.fromarray(wide).save(folder / "masks" / "b.png")
    Image.fromarray(np.repeat(wide[..., None], 3, 2)).save(folder / "images" / "b.jpg")

    def labels(**options):
        (block,) = open_data(folder, [RGB], options=DataOptions(**options)).blocks(8)
        return block.decode().labels

    assert np.array_equal(labels()[0], numbers)
    assert np.array_equal(labels()[1], numbers)
    assert np.array_equal(labels(crop="center")[1], wide[:, 2:6])
    padded = labels(crop="pad")[1]
    assert (padded[[0, 3]] == 255).all()
    assert np.array_equal(padded[1:3, ::2], numbers[1:3, ::2])


def test_masks_that_hold_no_class_numbers(masked):
    folder, numbers = masked
    (folder / "masks" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.jpg has no mask: there is no b\.png in .*masks"):
        open_data(folder, [RGB])
    with pytest.raises(DataError, match=r"1 of 2 masks are missing, the first in line 2: masks/b"):
        read(folder, "images/a.jpg,masks/a.png\nimages/b.jpg,masks/b.png\n")
    for name, image in {
        "b.png": Image.fromarray(np.repeat(numbers[..., None], 3, 2)),
        "b.jpg": Image.fromarray(numbers),
    }.items():
        image.save(folder / "masks" / name)
        source = read(folder, f"images/a.jpg,masks/a.png\nimages/b.jpg,masks/{name}\n")
        with pytest.raises(DataError, match=rf"Mask .*{name} is a .* class numbers.*palette"):
            list(source)
    (folder / "masks" / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"Mask .*b\.png cannot be read: it is no image"):
        list(open_data(folder, [RGB]))
