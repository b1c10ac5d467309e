import contextlib
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfq.calibrate.statistics import Statistics, fingerprint
from tfq.errors import DataError, TfqError, UsageError
from tfq.observe.sketch import Sketch

MODEL = b"a model's bytes"
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def statistics_of(samples, mode="full", model=MODEL):
    """`samples` is a list of maps from tensor name to values."""
    sketches = {name: Sketch(mode) for name in samples[0]}
    for sample in samples:
        for name, values in sample.items():
            sketches[name].update(np.asarray(values, np.float32))
    return Statistics(sketches, fingerprint(model), len(samples), mode)


@pytest.mark.parametrize("mode", ["full", "minmax"])
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(hnp.arrays(np.float32, 5, elements=FINITE), min_size=1, max_size=4))
def test_save_and_load_round_trip(tmp_path, mode, values):
    statistics = statistics_of([{"a": v, "b/c:0": np.abs(v)} for v in values], mode)
    path = tmp_path / "statistics.npz"
    statistics.save(path)
    loaded = Statistics.load(path, model=MODEL)
    assert loaded == statistics
    assert list(loaded) == ["a", "b/c:0"]
    assert [p.name for p in tmp_path.iterdir()] == ["statistics.npz"]
    assert loaded.merge(statistics).merge(loaded) == statistics.merge(loaded).merge(loaded)


def test_a_loaded_file_can_be_filled_further(tmp_path):
    samples = [{"a": np.linspace(0, k, 9000, dtype=np.float32)} for k in range(1, 4)]
    statistics_of(samples[:2]).save(tmp_path / "s")
    loaded = Statistics.load(tmp_path / "s")
    loaded["a"].update(samples[2]["a"] * -1)
    expected = statistics_of([*samples[:2], {"a": -samples[2]["a"]}])
    assert loaded["a"] == expected["a"]


def test_merge_refuses_what_does_not_belong_together():
    one = statistics_of([{"a": [1.0]}])
    for other, said in (
        (statistics_of([{"a": [1.0]}], model=b"x"), "model"),
        (statistics_of([{"a": [1.0]}], "minmax"), "mode"),
        (statistics_of([{"a": [1.0], "b": [1.0]}]), "tensors, 'b'"),
    ):
        with pytest.raises(DataError, match=said):
            one.merge(other)


def test_load_says_what_is_wrong(tmp_path):
    path = tmp_path / "s.npz"
    statistics = statistics_of([{"a": [1.0, 2.0]}])
    statistics.save(path)
    with pytest.raises(DataError, match=r"s\.npz' were made for another model"):
        Statistics.load(path, model=b"other")
    with pytest.raises(UsageError, match=r"no file .*missing\.npz"):
        Statistics.load(tmp_path / "missing.npz")
    good = path.read_bytes()
    for damaged in (b"", b"nonsense", good[: len(good) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            Statistics.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(DataError, match="not statistics"):
        Statistics.load(path)
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"not an \.npz"):
        Statistics.load(tmp_path / "x.npy")
    header = {"format": "tfq-statistics", "version": 99}
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    with pytest.raises(DataError, match="version 99"):
        Statistics.load(path)


def as_bytes(text):
    return np.frombuffer(text, np.uint8)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        *((key, lambda a: a.astype(np.complex64)) for key in ("count", "extremes", "counts")),
        *((key, lambda a: a.astype(object)) for key in ("count", "extremes", "bins")),
        ("bins_size", lambda a: a.astype(np.float32)),
        ("counts", lambda a: a > 0),
        ("counts", lambda a: -a),
        ("counts", lambda a: a * 0),
        ("counts", lambda a: a.astype(np.uint64) * 0 + np.uint64(2**64 - 1)),
        ("counts", lambda a: a[:-1]),
        ("count", lambda a: a + 1),
        ("count", lambda a: a[:0]),
        ("count", lambda a: a.astype("U3")),
        ("bins", lambda a: a * 0),
        ("bins", lambda a: a * 0 + 0x7F80),
        ("minima_counts", lambda a: a + 1),
        ("extremes", lambda a: a * np.nan),
        ("extremes", lambda a: a * np.inf),
        ("extremes", lambda a: a[:, ::-1]),
        ("extremes", lambda a: a[0]),
        ("header", lambda a: as_bytes(a.tobytes().replace(b'"samples": 2', b'"samples": -2'))),
        ("header", lambda a: as_bytes(a.tobytes().replace(b'["a"]', b"[[1]]"))),
        ("header", lambda a: as_bytes(b"[" * 100_000)),
    ],
)
def test_arrays_that_no_samples_can_have_led_to(tmp_path, key, change):
    path = tmp_path / "s.npz"
    statistics_of([{"a": [1.0, -2.0, 5.0]}, {"a": [3.0, 0.5, 7.0]}]).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    with np.errstate(all="ignore"):
        arrays[key] = change(arrays[key])
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"damaged, or not statistics|cannot be read"):
        Statistics.load(path)


@pytest.mark.parametrize("name", ["header", "count", "bins"])
def test_a_member_that_is_no_array(tmp_path, name):
    path = tmp_path / "s.npz"
    statistics_of([{"a": [1.0]}]).save(path)
    with zipfile.ZipFile(path) as file:
        members = {n: file.read(n) for n in file.namelist()}
    members[f"{name}.npy"] = b"no array"
    with zipfile.ZipFile(path, "w") as file:
        for member, content in members.items():
            file.writestr(member, content)
    with pytest.raises(DataError, match=f"'{name}' in it is no array"):
        Statistics.load(path)


def test_flipped_bytes_never_give_a_traceback(tmp_path):
    path = tmp_path / "s.npz"
    statistics_of([{"a": np.linspace(-1, 1, 50), "b": np.zeros(3)}]).save(path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(good), 100):
        damaged = bytearray(good)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):  # Some bits of a zip file mean nothing.
            assert Statistics.load(path).keys() == {"a", "b"}


def test_an_unwritable_place(tmp_path):
    with pytest.raises(TfqError, match="Cannot write"):
        statistics_of([{"a": [1.0]}]).save(tmp_path / "no" / "such" / "folder.npz")
    assert list(tmp_path.iterdir()) == []
