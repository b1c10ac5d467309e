"""The fuzzer finds what it looks for: every kind of bad end, made on purpose, is told apart."""

import importlib
import json
import os
import pathlib
import sys
import time

import pytest

FUZZ = pathlib.Path(__file__).parents[2] / "tools" / "fuzz"
NAMES = ("forks", "mutate", "seeds", "targets", "run")


@pytest.fixture(scope="module")
def fuzz():
    """The modules of tools/fuzz by name, as its script finds them: in their own folder."""
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(FUZZ))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(FUZZ) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def fine(argv):
    pathlib.Path("out.json").write_text("{}")
    return 0


def refuses(argv):
    sys.stderr.write("error: no.\n")
    return 1


def raises(argv):
    raise ValueError("a defect")


def aborts(argv):
    os.abort()


def hangs(argv):
    time.sleep(600)


def leaves_half_a_file(argv):
    pathlib.Path("out.json.tmp").write_text("half")
    return refuses(argv)


def writes_no_json(argv):
    pathlib.Path("out.json").write_text('{"x": NaN}')
    return 0


def says_two_things(argv):
    sys.stdout.write("done\n")
    return refuses(argv)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (fine, "ok"),
        (refuses, "refused"),
        (raises, "uncaught"),
        (aborts, "crash"),
        (hangs, "hang"),
        (leaves_half_a_file, "leftover"),
        (writes_no_json, "unusable"),
        (says_two_things, "garbled"),
    ],
)
def test_every_bad_end_is_found(fuzz, monkeypatch, command, kind):
    forks, targets, seeds = fuzz["forks"], fuzz["targets"], fuzz["seeds"]
    monkeypatch.setitem(targets.COMMANDS, "tried", command)
    monkeypatch.setitem(targets.COMMANDS, "fine", fine)
    tried, after = (
        seeds.Seed("x", name, (), {"in.txt": b"x"}, "in.txt", ("out.json",))
        for name in ("tried", "fine")
    )

    def work(number):
        return targets.run(tried if number == 1 else after, number)

    limit = 0.5 if command is hangs else 60
    verdicts = list(forks.judge(work, range(4), time_limit=limit))
    assert [v.number for v in verdicts] == [0, 1, 2, 3]
    assert [v.kind for v in verdicts] == ["ok", kind, "ok", "ok"]
    assert verdicts[1].fault == (kind not in ("ok", "refused"))


def test_a_campaign_keeps_what_it_finds_and_runs_it_again(fuzz, monkeypatch, tmp_path, capsys):
    run, targets = fuzz["run"], fuzz["targets"]
    monkeypatch.setitem(targets.COMMANDS, "read", raises)
    monkeypatch.setattr(targets, "MIXTURE", ("data",))
    argv = ["--targets=data", "--inputs=40", "--seed=3", f"--out={tmp_path}"]
    assert run.main(argv) == 1
    said = capsys.readouterr().out
    assert "data: uncaught, ValueError in" in said
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 3
    about = json.loads((kept[0] / "case.json").read_text())
    assert "a defect" in about["verdict"]["detail"]
    assert run.main([f"--replay={kept[0]}"]) == 1
    assert "a defect" in capsys.readouterr().out
    again = targets.make(about["verdict"]["number"], 3, ("data",))
    assert targets.load(kept[0]) == again


def test_the_same_seed_gives_the_same_inputs(fuzz):
    make = fuzz["targets"].make
    for number in (0, 1, 13):
        targets = ("data",)
        assert make(number, 5, targets) == make(number, 5, targets)
        assert make(number, 5, targets) != make(number, 6, targets)


def test_a_model_is_damaged_field_by_field(fuzz):
    """Most files that come out are still read: the damage is in what they say."""
    import random

    from small_models import cnn

    from tfq.errors import ModelError
    from tfq.graph.model import Model

    read = 0
    for n in range(40):
        damaged = fuzz["mutate"].damage_model(cnn(), random.Random(n))
        assert damaged != cnn()
        try:
            Model.from_bytes(damaged)
            read += 1
        except ModelError:
            continue
    assert 10 <= read < 40
