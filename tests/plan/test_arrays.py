"""The file with integers beside a plan: written whole, named by what it holds, never believed."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest

from tfq.errors import TfqError, UsageError
from tfq.graph.numerics import Grid
from tfq.plan import arrays
from tfq.plan.entries import TensorPlan
from tfq.plan.plan import Plan

BIASES = {"a": np.array([1, -2], np.int32), "b/é": np.array([2**40], np.int64)}
WEIGHTS = {"a": np.array([[1, 2], [-127, 3]], np.int8)}


def plan_with(biases=BIASES, weights=WEIGHTS) -> Plan:
    grid = Grid("int8", (0.5,), (0,))
    plan = Plan("ab" * 32, {"scheme": "int8"}, {"t": TensorPlan(grid, "")}, {}, {}, {})
    return dataclasses.replace(plan, biases=biases, weights=weights)


def files(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_json_names_the_file_and_what_is_in_it(tmp_path):
    plan_with().save(tmp_path / "p.json")
    said = json.loads((tmp_path / "p.json").read_text())["arrays"]
    content = (tmp_path / said["file"]).read_bytes()
    assert said["sha256"] == hashlib.sha256(content).hexdigest()
    assert said["file"] == f"p.{said['sha256'][:12]}.npz"
    assert (said["biases"], said["weights"]) == (["a", "b/é"], ["a"])
    with np.load(tmp_path / said["file"]) as found:
        assert [found[k].tolist() for k in found.files] == [[1, -2], [2**40], [[1, 2], [-127, 3]]]


def test_the_same_plan_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plan_with().save(tmp_path / name / "p.json")
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_plans_differ_where_an_integer_does():
    other = {**BIASES, "a": np.array([1, -3], np.int32)}
    wider = {**BIASES, "a": np.array([1, -2], np.int64)}
    assert plan_with() == plan_with(dict(BIASES))
    for biases in (other, wider, {}):
        assert plan_with() != plan_with(biases)


def test_a_plan_takes_the_place_of_another_with_its_arrays(tmp_path):
    path = tmp_path / "p.json"
    (tmp_path / "samples.npz").write_bytes(b"mine")
    plan_with().save(path)
    (before,) = (n for n in files(tmp_path) if n.startswith("p.") and n.endswith("npz"))
    plan_with(weights={}).save(path)
    assert before not in files(tmp_path)
    assert len(files(tmp_path)) == 3
    assert Plan.load(path) == plan_with(weights={})
    plan_with({}, {}).save(path)
    assert files(tmp_path) == ["p.json", "samples.npz"]
    # What was not written by `save` is not removed, whatever a file says.
    path.write_text(json.dumps({"arrays": {"file": "samples.npz", "sha256": "0" * 64}}))
    plan_with({}, {}).save(path)
    assert files(tmp_path) == ["p.json", "samples.npz"]


@pytest.mark.parametrize("fails", ["p.json", ".npz"])
def test_what_fails_leaves_the_plan_that_was_there(tmp_path, monkeypatch, fails):
    path = tmp_path / "p.json"
    plan_with(weights={}).save(path)
    replace = os.replace

    def refuse(source, target):
        if str(target).endswith(fails):
            raise OSError(28, "full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(TfqError, match="disk is full"):
        plan_with().save(path)
    assert Plan.load(path) == plan_with(weights={})


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "real" / "p.json")
    plan_with().save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert Plan.load(tmp_path / "link.json") == plan_with() == Plan.load(tmp_path / "real/p.json")


def test_a_pair_of_two_plans_is_one_clear_error(tmp_path):
    path = tmp_path / "p.json"
    plan_with().save(path)
    name = json.loads(path.read_text())["arrays"]["file"]
    (tmp_path / name).write_bytes(arrays.pack([np.zeros(2, np.int32)]))
    with pytest.raises(UsageError, match=r"is not the file that .*p\.json was written with"):
        Plan.load(path)
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=r"There is no file .*npz, which holds the biases"):
        Plan.load(path)
    with pytest.raises(UsageError, match="in a file beside it"):
        Plan.from_json(path.read_text())


def member(array, header=None, name="0.npy", edit=None) -> bytes:
    stream, inner = io.BytesIO(), io.BytesIO()
    if header is None:
        np.lib.format.write_array(inner, array)
    else:
        np.lib.format.write_array_header_1_0(inner, header)
        inner.write(array.tobytes())
    content = inner.getvalue() if edit is None else inner.getvalue().replace(*edit)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def headed(shape, descr="<i4") -> dict:
    return {"shape": shape, "fortran_order": False, "descr": descr}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK nonsense",
        arrays.pack([])[:-3],
        arrays.pack([np.arange(99, dtype=np.int32)])[:-30],
        member(np.array([1.0, np.nan], np.float32)),
        member(np.array([True])),
        member(np.array([1], ">i4")),
        member(np.array([1], np.uint8)),
        member(np.array([[1, 2], [3, 4]], np.int32), name="a.npy"),
        member(np.array([None, {}], object), headed((2,), "|O")),
        member(np.arange(2, dtype=np.int32), headed((2**40,))),
        member(np.arange(2, dtype=np.int32), headed((-1, -2))),
        member(np.arange(2, dtype=np.int32), headed((1,))),
        member(np.arange(2, dtype=np.int32), headed((1,) * 30 + (2,))),
        member(np.arange(2, dtype=np.int32), edit=(b"}", b" ")),
        member(np.arange(2, dtype=np.int32), edit=(b"{", b" ")),
        member(np.arange(2, dtype=np.int32), edit=(b"\x01\x00", b"\x02\x00")),
    ],
    ids=[str(i) for i in range(17)],
)
def test_a_file_that_holds_something_else_is_one_clear_error(tmp_path, content):
    path = tmp_path / "p.json"
    plan_with({"a": np.zeros(2, np.int32)}, {}).save(path)
    body = json.loads(path.read_text())
    (tmp_path / "hostile.npz").write_bytes(content)
    body["arrays"] |= {"file": "hostile.npz", "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(body))
    with pytest.raises(UsageError, match=r"hostile\.npz cannot be read"):
        Plan.load(path)


@pytest.mark.parametrize(
    "edit",
    [
        {"file": "../p.npz"},
        {"file": "/etc/passwd"},
        {"file": 3},
        {"file": "a\0.npz"},
        {"biases": "a"},
        {"biases": ["a", "a"]},
        {"weights": [3]},
    ],
)
def test_a_section_that_is_garbled_is_one_clear_error(tmp_path, edit):
    path = tmp_path / "p.json"
    plan_with().save(path)
    body = json.loads(path.read_text())
    body["arrays"] |= edit
    path.write_text(json.dumps(body))
    with pytest.raises(UsageError, match="lacks or garbles a field"):
        Plan.load(path)
    for section in ([], "x", {}, None):
        path.write_text(json.dumps({**body, "arrays": section}))
        with pytest.raises(UsageError, match="lacks or garbles a field"):
            Plan.load(path)


@pytest.mark.parametrize("names", [["a"], ["a", "b/é", "c"]])
def test_names_and_arrays_are_as_many(tmp_path, names):
    path = tmp_path / "p.json"
    plan_with(weights={}).save(path)
    body = json.loads(path.read_text())
    body["arrays"]["biases"] = names
    path.write_text(json.dumps(body))
    with pytest.raises(UsageError, match="cannot be read"):
        Plan.load(path)
