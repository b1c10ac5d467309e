"""`blocks` must give what iterating gives, for every kind of source."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from tfrecord_files import example, record

from tfq.data import ArgSpec, DataOptions, open_data
from tfq.errors import DataError, UsageError

ONE = ArgSpec("x", "x", (1, 2), "float32")
BATCH4 = ArgSpec("x", "x", (4, 2), "float32")
A = ArgSpec("a", "a", (1, 2), "float32")
B = ArgSpec("b", "b", (1, 3), "int32")
WHOLE = (ArgSpec("a", "a", (1, 2), "float32"), ArgSpec("b", "b", (3,), "float32"))
X = np.arange(20.0).reshape(10, 2)
X3 = np.arange(30.0).reshape(10, 3)
Y = np.arange(10)


def rows_of(source):
    """Input rows by name and labels, as iterating gives them."""
    inputs, labels = {}, []
    for sample in source:
        batched = source._fitter.batched
        for name, array in sample.inputs.items():
            rows = array[: sample.real] if batched else array[np.newaxis]
            inputs.setdefault(name, []).extend(rows)
        labels.extend([] if sample.label is None else sample.label)
    return inputs, labels


def check(make, rows, count=None):
    """Compares the blocks of one `make()` with the samples of another."""
    inputs, labels = rows_of(make())
    source = make()
    blocks = [pickle.loads(pickle.dumps(block)) for block in source.blocks(rows)]
    total = len(next(iter(inputs.values())))
    assert count in (None, total)
    assert [b.start for b in blocks] == list(range(0, total, rows))
    assert [b.rows for b in blocks] == [min(rows, total - b.start) for b in blocks]
    assert all(b.nbytes > 0 for b in blocks)
    decoded = [block.decode() for block in blocks]
    for name, expected in inputs.items():
        for block, part in zip(blocks, decoded, strict=True):
            assert len(part.inputs[name]) == block.rows
            assert part.inputs[name].flags.c_contiguous
            assert part.inputs[name].dtype == expected[0].dtype
        got = [row for part in decoded for row in part.inputs[name]]
        assert [g.tobytes() for g in got] == [e.tobytes() for e in expected]
    if not source.has_labels:
        assert all(part.labels is None for part in decoded)
        return
    got = [label for part in decoded for label in part.labels]
    assert len(got) == len(labels) == total
    for have, want in zip(got, labels, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 99])
@pytest.mark.parametrize("limit", [None, 1, 7, 10])
@pytest.mark.parametrize("spec", [ONE, BATCH4])
@pytest.mark.parametrize(
    "data",
    [
        X,
        np.asfortranarray(X),
        X[:, None],
        X.reshape(5, 2, 2),
        np.asfortranarray(X.reshape(5, 2, 2)),
        X.tolist(),
        X.astype(np.uint8),
        (X, Y),
        {"x": X, "y": X3},
        {"x": X.reshape(5, 2, 2), "y": Y.reshape(5, 2)},
        {"x": X[:, None], "y": Y},
        {"x": X[:, None], "y": Y[:, None]},
        {"x": X[:, None], "y": X3},
        lambda: iter(X),
        lambda: zip(X, Y, strict=True),
        lambda: (X[i : i + 4] for i in range(0, 10, 4)),
        lambda: ((X[i : i + 3], Y[i : i + 3]) for i in range(0, 10, 3)),
        lambda: (X[i].astype(t) for i, t in enumerate("fdihbBfffd")),
    ],
)
def test_blocks_equal_iteration(data, spec, limit, rows):
    check(lambda: open_data(data, [spec], limit=limit), rows, limit or 10)


@pytest.mark.parametrize("rows", [1, 3, 10])
@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize(
    "data",
    [
        (X, X3, Y),
        {"b": X3, "a": X},
        lambda: zip(X, X3, Y, strict=True),
        lambda: ((X[i : i + 3], X3[i : i + 3], Y[i : i + 3]) for i in range(0, 10, 3)),
    ],
)
def test_two_inputs(data, limit, rows):
    check(lambda: open_data(data, [A, B], limit=limit), rows)


def test_inputs_without_a_batch_are_taken_whole():
    data = {"a": X[:, None], "b": X3, "y": Y}
    check(lambda: open_data(data, WHOLE), 4, 10)
    block = next(open_data(data, WHOLE).blocks(4))
    assert {n: a.shape for n, a in block.decode().inputs.items()} == {"a": (4, 1, 2), "b": (4, 3)}


@pytest.mark.parametrize("rows", [1, 4, 64])
@pytest.mark.parametrize("limit", [None, 7])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", ">f4", "<f8", "uint8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_array_files(tmp_path, order, dtype, compressed, limit, rows):
    x = np.asarray(X.reshape(5, 2, 2).astype(dtype), order=order)
    (np.savez_compressed if compressed else np.savez)(
        tmp_path / "d.npz", x=x, y=Y.reshape(5, 2).astype(dtype)
    )
    np.save(tmp_path / "d.npy", x)
    for name in ("d.npz", "d.npy"):
        check(lambda name=name: open_data(tmp_path / name, [ONE], limit=limit), rows, limit or 10)


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("options", [{}, {"scale": 1 / 255}])
@pytest.mark.parametrize("shape", [(1, 4, 4, 3), (2, 3, 4, 4), (1, 4, 4)])
def test_images(tmp_path, shape, options, rows):
    for i, name in enumerate(["a/0.png", "a/1.png", "b/0.png", "c/0.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "list.csv").write_text("c/0.png,fox\na/1.png,cat\nb/0.png,fox\n")
    spec = ArgSpec("x", "x", shape, "float32")
    for path, count in ((tmp_path, 4), (tmp_path / "list.csv", 3), (tmp_path / "a", 2)):
        for limit in (None, 2):
            check(
                lambda path=path, limit=limit: open_data(
                    path, [spec], limit=limit, options=DataOptions(**options)
                ),
                rows,
                limit or count,
            )


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("limit", [None, 4])
def test_tfrecord(tmp_path, limit, rows):
    stream = io.BytesIO()
    Image.fromarray(np.full((5, 5, 3), 77, np.uint8)).save(stream, "png")
    image = ArgSpec("image", "image", (1, 4, 4, 3), "float32")
    path = tmp_path / "d.tfrecord"
    examples = [{"image": np.arange(48.0) * i, "x": row, "y": i} for i, row in enumerate(X)]
    examples[3]["image"] = stream.getvalue()
    path.write_bytes(b"".join(record(example(**e)) for e in examples))
    check(lambda: open_data(path, [image, ONE], limit=limit), rows, limit or 10)


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_made_up_samples(rows):
    check(lambda: open_data("synthetic", [A, B], limit=10), rows, 10)


def test_labels_of_many_shapes():
    boxes = [np.arange(5 * n).reshape(n, 5) for n in (2, 0, 3, 3)]
    source = open_data(lambda: zip(X[:4], boxes, strict=True), [ONE])
    check(lambda: source, 3, 4)
    ragged, even = (block.decode().labels for block in source.blocks(3))
    assert [label.shape for label in ragged] == [(2, 5), (0, 5), (3, 5)]
    assert even.shape == (1, 3, 5)


def test_padded_boxes_in_a_file(tmp_path):
    boxes = np.full((10, 4, 5), -1.0, np.float32)
    boxes[:, 0] = np.arange(5)
    np.savez(tmp_path / "d.npz", x=X, y=boxes)
    check(lambda: open_data(tmp_path / "d.npz", [ONE]), 4, 10)


def test_inputs_of_open_shape_must_agree_within_a_block():
    spec = ArgSpec("x", "x", (1, -1), "float32")
    source = open_data(lambda: iter([X[0], X3[0], X3[1]]), [spec])
    check(lambda: source, 1, 3)
    with pytest.raises(DataError, match=r"Samples 0 and following.*Received: \(2,\) and \(3,\)"):
        next(source.blocks(2)).decode()


def test_read_once_and_how_many():
    source = open_data(iter(X), [ONE])
    assert len(list(source.blocks(4))) == 3
    with pytest.raises(DataError, match="only once"):
        source.blocks(4)
    with pytest.raises(DataError, match="only once"):
        iter(source)
    with pytest.raises(UsageError, match="Received: rows=0"):
        open_data(X, [ONE]).blocks(0)
    with pytest.raises(DataError, match="no samples"):
        list(open_data(lambda: (X[:0] for _ in range(2)), [ONE]).blocks(4))
    assert (open_data(X, [BATCH4], limit=9).rows, open_data(iter(X), [ONE]).rows) == (9, None)


@pytest.mark.parametrize("limit", [1, 3, 10, 99])
def test_a_limit_reads_no_more_than_it_needs(limit):
    pulled = []

    def generator():
        for i, row in enumerate(X):
            pulled.append(i)
            yield [row]

    blocks = list(open_data(generator(), [ONE], limit=limit).blocks(4))
    assert sum(b.rows for b in blocks) == len(pulled) == min(limit, 10)


def test_reading_a_block_reads_no_further():
    pulled = []

    def generator():
        for row in X:
            pulled.append(row)
            yield [row]

    next(open_data(generator, [ONE]).blocks(4))
    assert len(pulled) == 4


def test_a_buffer_that_the_generator_reuses_is_copied():
    buffer = np.zeros((1, 2), np.float32)

    def generator():
        for i in range(5):
            buffer[:] = i
            yield [buffer]

    blocks = list(open_data(generator, [ONE]).blocks(2))
    assert [x[0] for b in blocks for x in b.decode().inputs["x"]] == [0, 1, 2, 3, 4]


def test_decoding_leaves_the_data_alone():
    x = X.astype(np.float32)
    block = next(open_data((x, Y), [ONE]).blocks(4))
    decoded = block.decode()
    decoded.inputs["x"][:] = 7
    decoded.labels[:] = 7
    assert x[0, 1] == 1
    assert block.decode().labels.tolist() == [0, 1, 2, 3]


def spoilt(form, path):
    """Data in which sample 6 is wrong, and 8 more so."""
    x = X.copy()
    x[6, 1] = np.nan
    x[8] = np.inf
    if form == "npz":
        np.savez(path / "d.npz", x=x, y=Y)
        return path / "d.npz"
    if form == "tfrecord":
        file = path / "d.tfrecord"
        file.write_bytes(b"".join(record(example(x=row, y=1)) for row in x[:8]) + b"damaged")
        return file
    return {
        "arrays": (x, Y),
        "rows": lambda: zip(x, Y, strict=True),
        "batches": lambda: (x[i : i + 4] for i in range(0, 10, 4)),
        "unlabelled": lambda: iter([*zip(X[:6], Y[:6], strict=True), X[6], *x[7:]]),
        "mixed": lambda: (row.astype("fd"[i % 2]) for i, row in enumerate(x)),
    }[form]


@pytest.mark.parametrize("rows", [1, 4, 7, 10])
@pytest.mark.parametrize(
    "form", ["npz", "tfrecord", "arrays", "rows", "batches", "unlabelled", "mixed"]
)
def test_errors_name_the_sample_that_iterating_names(tmp_path, form, rows):
    data = spoilt(form, tmp_path)
    with pytest.raises(DataError, match="Sample 6 of") as iterating:
        list(open_data(data, [ONE]))
    with pytest.raises(DataError) as decoding:
        [block.decode() for block in open_data(data, [ONE]).blocks(rows)]
    if form != "tfrecord" or rows < 8:  # Damage to the file itself is seen while reading.
        assert str(decoding.value) == str(iterating.value)


def test_a_damaged_image_is_named_when_it_is_decoded(tmp_path):
    for i in range(3):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"damaged")
    (block,) = open_data(tmp_path, [ArgSpec("x", "x", (1, 4, 4, 3), "float32")]).blocks(8)
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        block.decode()


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_of_an_array_file_is_seen(tmp_path, compressed):
    x = np.random.default_rng(0).normal(size=(50, 2))
    path = tmp_path / "d.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=x)
    data = path.read_bytes()
    path.write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
    with pytest.raises(DataError, match=r"d\.npz cannot be read"):
        list(open_data(path, [ONE]).blocks(8))


def test_a_block_is_little_more_than_its_data(tmp_path):
    x = np.zeros((64, 1000), np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    spec = ArgSpec("x", "x", (1, 1000), "float32")
    for data in (x, tmp_path / "d.npz", lambda: iter(x)):
        block = next(open_data(data, [spec]).blocks(16))
        assert block.nbytes == 16 * 4000
        assert len(pickle.dumps(block)) < block.nbytes + 1500


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_stays_that_of_a_block(tmp_path, save):
    spec = ArgSpec("x", "x", (1, 10_000), "float32")
    save(tmp_path / "big.npz", x=np.zeros((500, 10_000), np.float32))
    tracemalloc.start()
    for block in open_data(tmp_path / "big.npz", [spec]).blocks(10):
        block.decode()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 400_000


@pytest.mark.slow
def test_tensorflow_datasets():
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((X.astype(np.float32), Y))
    for data in (dataset, dataset.batch(4)):
        for rows in (3, 4, 64):
            check(lambda data=data: open_data(data, [BATCH4]), rows, 10)
