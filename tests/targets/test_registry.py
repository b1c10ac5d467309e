"""Targets by name, a user's own among them, and what figures refuse."""

import pytest

from tfq.errors import UsageError
from tfq.targets import Evidence, Figure, Target, get_target, known_targets


def test_every_target_is_made():
    for name in known_targets():
        assert get_target(name).name == name


def test_a_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_board.py").write_text(
        "from tfq.targets import Target\nBOARD = Target(name='board', title='my board')\nX = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert get_target("my_board:BOARD").title == "my board"
    with pytest.raises(UsageError, match=r"X must be a tfq.targets.Target. Received: int"):
        get_target("my_board:X")
    with pytest.raises(UsageError, match=r"'my_board:Y' is no target.*NoneType"):
        get_target("my_board:Y")
    own = Target(name="mine", title="")
    assert get_target(own) is own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cup", r"Unknown target 'cup'. Choose one of: cpu.*package.module:TARGET.*mean 'cpu'"),
        ("cpu:x", "cpu has no variants"),
        ("no_such_module:T", "Unknown target"),
        ("no.such.module:T", "Cannot import 'no.such.module'.*PYTHONPATH"),
        ("", "Unknown target"),
    ],
)
def test_unknown_targets(name, message):
    with pytest.raises(UsageError, match=message):
        get_target(name)


def test_nobody_has_time_that_was_not_measured():
    for evidence in Evidence:
        if evidence in (Evidence.DEVICE, Evidence.HOST):
            assert Figure.of([1.0, 3.0], "us", evidence).median == 2.0
        else:
            assert Figure.of([5], "instructions", evidence).spread == 0
            with pytest.raises(ValueError, match="nobody measured"):
                Figure.of([1.0], "us", evidence)


def test_quartiles():
    f = Figure.of([1, 2, 3, 4, 5], "us", Evidence.HOST)
    assert (f.low, f.median, f.high, f.count) == (2, 3, 4, 5)
    assert f.spread == pytest.approx(2 / 3)
