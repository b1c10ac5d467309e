import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfq.data import ArgSpec, open_data
from tfq.errors import DataError

X = ArgSpec("x", "serving_default_x:0", (1, 4, 3), "float32")


def read(path, inputs=(X,), **options):
    return list(open_data(path, inputs, **options))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
    dtype=st.sampled_from(["float32", "<f8", ">f4", "int16", "uint8"]),
    order=st.sampled_from("CF"),
    compressed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_npz_streaming_equals_np_load(tmp_path, shape, dtype, order, compressed, seed):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    array = np.asarray(values.astype(dtype), order=order)
    path = tmp_path / "data.npz"
    (np.savez_compressed if compressed else np.savez)(
        path, x=array, y=values.reshape(len(values), -1)
    )
    spec = ArgSpec("x", "x", (1, *shape[1:]), "float32")
    samples = read(path, [spec])
    with np.load(path) as loaded:
        np.testing.assert_array_equal(
            np.concatenate([s.inputs["x"] for s in samples]), loaded["x"].astype("float32")
        )
        np.testing.assert_array_equal(np.concatenate([s.label for s in samples]), loaded["y"])


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, order):
    array = np.asarray(np.arange(60.0).reshape(5, 4, 3), order=order)
    np.save(tmp_path / "a.npy", array)
    source = open_data(tmp_path / "a.npy", [X])
    assert (source.count, source.has_labels, source.repeatable) == (5, False, True)
    assert source.description == "a.npy, 5 samples"
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([s.inputs["x"] for s in source]), array)


def test_two_inputs_by_name_and_labels(tmp_path):
    inputs = [ArgSpec("a", "a:0", (1, 2), "float32"), ArgSpec("b", "b:0", (1,), "int32")]
    b = np.arange(6)
    np.savez(tmp_path / "d.npz", **{"b": b, "a:0": np.ones((6, 2)), "y": b * 10})
    samples = read(tmp_path / "d.npz", inputs)
    assert [s.inputs["b"].tolist() for s in samples] == [[i] for i in b]
    assert [s.label.tolist() for s in samples] == [[i * 10] for i in b]
    assert samples[0].inputs["b"].dtype == np.int32


def test_memory_stays_that_of_one_sample(tmp_path):
    import tracemalloc

    spec = ArgSpec("x", "x", (1, 100_000), "float32")
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "big.npz", x=np.zeros((50, 100_000), np.float32))
        tracemalloc.start()
        for _ in open_data(tmp_path / "big.npz", [spec]):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * 400_000


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((5, 4, 2))}, r"shape \(4, 3\).*Received: \(4, 2\)"),
        ({"x": np.zeros((5, 3, 4))}, "transpose"),
        ({"x": np.zeros((4, 3))}, "seems to be one sample"),
        ({"x": np.zeros((0, 4, 3))}, "no samples"),
        ({"x": np.array(1.0)}, "single number"),
        ({"x": np.zeros((5, 4, 3)), "y": np.zeros(4)}, "'x' 5, 'y' 4"),
        ({"x": np.zeros((5, 4, 3)), "z": np.zeros(5)}, "'z', which is no input"),
        ({"w": np.zeros((5, 4, 3)), "z": np.zeros(5)}, "no data for the model's input 'x'"),
        ({"x": np.zeros((5, 4, 3), complex)}, "complex128"),
        ({"x": np.full((5, 4, 3), "a")}, "dtype <U1"),
        ({"x": np.full((5, 4, 3), None)}, "Python objects"),
        ({"x": np.zeros((5, 4, 3)), "y": np.full(5, "cat")}, "label"),
    ],
)
def test_npz_that_does_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "d.npz")


def test_nan_names_sample_and_input(tmp_path):
    x = np.zeros((5, 4, 3))
    x[2, 1, :2] = np.nan
    np.savez(tmp_path / "d.npz", x=x)
    with pytest.raises(DataError, match=r"Sample 2 of d.npz: input 'x' has 2 of 12 values"):
        read(tmp_path / "d.npz")


def test_npy_for_a_model_of_two_inputs(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    inputs = [ArgSpec(n, n, (1, 2), "float32") for n in "ab"]
    with pytest.raises(DataError, match=r"2 inputs.*'a', 'b'"):
        read(tmp_path / "a.npy", inputs)


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_truncated_at_every_length(tmp_path, name):
    x = np.random.default_rng(0).normal(size=(3, 4, 3))
    path = tmp_path / name
    (np.savez_compressed(path, x=x) if name.endswith("z") else np.save(path, x))
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match="cannot be read"):
            read(path)


def test_flipped_bits_never_escape_as_another_error(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(3, 4, 3)))
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError:
            refused += 1
    assert refused > 200  # The rest hit bytes that carry no meaning, such as dates.


def test_header_that_claims_too_much(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 4, 3)}
    )
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
    with pytest.raises(DataError, match="too short for an array"):
        read(tmp_path / "d.npz")


def test_header_that_cannot_be_parsed(tmp_path):
    np.save(tmp_path / "d.npy", np.zeros((3, 4, 3)))
    data = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(data.replace(b"(3, 4, 3), }", b"(3, 4, 3(, }"))
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "d.npy")
