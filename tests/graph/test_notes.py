"""JSON in the metadata of a file that somebody else may have written."""

import json

import pytest
from small_models import cnn

from tfq.equalize import read_changes
from tfq.errors import ModelError
from tfq.graph.model import Model
from tfq.plan.config_record import read_config
from tfq.plan.evidence import read_evidence
from tfq.rewrite.trained_weights import take_records
from tfq.sources.trained_grids import METADATA

RECORD = {"name": "w", "bits": 8, "axis": 0, "scales": [0.1], "shape": [1, 2], "integers": "AQI="}
TRIED = {
    "name": "calibration",
    "kept": "mse",
    "tried": 3,
    "outputs": [["y", "", 20.5, None]],
    "refused": {"what": "octav", "output": "y", "part": "[0:3]", "loss_db": 1.5},
}


def changes(what):
    return lambda model: getattr(read_changes(model), what)


READERS = {
    "tfq_config": (read_config, {"scheme": "int8", "rules": [{"regex": "a", "activations": None}]}),
    "tfq_equalization": (changes("equalization"), {"a": [1.0, 2.0]}),
    "tfq_relaxed": (changes("relaxed"), ["a"]),
    "tfq_absorbed": (changes("absorbed"), {"a": [1.0, 0.0]}),
    METADATA: (take_records, [RECORD]),
    "tfq_improvements": (read_evidence, [TRIED]),
}


def model(name, content):
    made = Model.from_bytes(cnn())
    made.metadata[name] = content if isinstance(content, bytes) else json.dumps(content).encode()
    return made


@pytest.mark.parametrize("name", READERS)
def test_notes_are_read(name):
    read, good = READERS[name]
    assert read(model(name, good))
    assert not read(Model.from_bytes(cnn()))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[" * 100_000, b"3", b'"x"', b"[1]"])
def test_notes_that_are_none(name, content):
    read, _ = READERS[name]
    with pytest.raises(ModelError, match=f"metadata '{name}' is damaged"):
        read(model(name, content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("tfq_config", {"rules": rules}) for rules in (3, "x", [3], {"a": 1}, [{"regex": "("}])),
        *(("tfq_config", {"ranges": ranges}) for ranges in (3, "x", ["a"])),
        ("tfq_config", b'{"scheme": NaN}'),
        *(("tfq_equalization", {"a": f}) for f in ([0.0], [-1.0], ["x"], 3, [None], [10**400])),
        *(("tfq_absorbed", {"a": f}) for f in ([-1.0], ["x"], 3, [None], [10**400])),
        *(("tfq_relaxed", names) for names in (3, {"a": 1}, [1], [None], b"[")),
        *(
            (METADATA, [{**RECORD, k: v}])
            for k, v in (("bits", 3), ("axis", 5), ("scales", [1, 2]))
        ),
        *(
            (METADATA, [{**RECORD, k: v}])
            for k, v in (("shape", [3]), ("integers", "?"), ("axis", "0"))
        ),
        (METADATA, [{}]),
        *(
            ("tfq_improvements", [{**TRIED, **change}])
            for change in (
                {"name": 3},
                {"tried": -1},
                {"tried": True},
                {"outputs": {}},
                {"outputs": [["y", "", 1.0]]},
                {"outputs": [["y", "", "1", 2.0]]},
                {"refused": "octav"},
                {"refused": {**TRIED["refused"], "loss_db": None}},
                {"note": "\ud800"},
            )
        ),
        ("tfq_improvements", [{}]),
        ("tfq_improvements", b'[{"name": "a", "kept": "", "tried": 1e999}]'),
    ],
)
def test_notes_with_values_that_cannot_be(name, content):
    with pytest.raises(ModelError, match=f"metadata '{name}' is damaged"):
        READERS[name][0](model(name, content))
