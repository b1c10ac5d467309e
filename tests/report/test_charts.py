"""The figures as files."""

import copy
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from reports import bare_report, make_report, nasty_report, null_report

from tfq.errors import TfqError, UsageError
from tfq.report import plots, require_plots

pytest.importorskip("matplotlib", reason="pip install 'tfq[plots]'")

ALL = ["differences", "layers-int8.tflite", "histograms-int8.tflite", "reliability"]


@pytest.mark.slow
def test_every_figure_in_every_format(tmp_path):
    folder = tmp_path / "new" / "plots"
    written = plots(make_report(layers=12, models=3), folder)
    assert written == [str(folder / f"{n}.{f}") for n in ALL for f in ("png", "svg")]
    assert sorted(p.name for p in folder.iterdir()) == sorted(Path(w).name for w in written)
    for path in map(Path, written):
        data = path.read_bytes()
        if path.suffix == ".png":
            assert data.startswith(b"\x89PNG")
            assert len(data) > 5_000
        else:
            assert ElementTree.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
            assert b"dc:date" not in data
    assert b"top-1 accuracy" in (folder / "differences.svg").read_bytes()
    assert b"conv_2d_3" in (folder / "layers-int8.tflite.svg").read_bytes()


def test_equal_reports_have_equal_files(tmp_path):
    report = make_report(layers=8)
    first = [Path(p).read_bytes() for p in plots(report, tmp_path, ["svg"])]
    second = [Path(p).read_bytes() for p in plots(copy.deepcopy(report), tmp_path, ["svg"])]
    assert first == second


def test_names_do_not_leave_the_folder(tmp_path):
    report = nasty_report()
    report["layers"][0]["model"] = "../../$x$/<b>.."
    report["layers"].append(copy.deepcopy(report["layers"][0]))
    folder = tmp_path / "plots"
    written = [Path(p) for p in plots(report, folder, ["svg"])]
    assert all(p.parent == folder and p.exists() for p in written)
    assert len(set(written)) == len(written) == 6
    assert [p.name for p in tmp_path.iterdir()] == ["plots"]


def test_what_is_not_known_is_not_drawn(tmp_path):
    with pytest.raises(TfqError, match="nothing to plot"):
        plots(bare_report(), tmp_path)
    with pytest.raises(TfqError, match="nothing to plot"):
        plots(null_report(), tmp_path)
    report = make_report(layers=3) | {"metrics": [], "reliability": []}
    for t in report["layers"][0]["tensors"]:
        t["histogram"] = None
    written = plots(report, tmp_path, ["svg"])
    assert [Path(p).name for p in written] == ["layers-int8.tflite.svg"]


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"Unknown format 'pgn'.*Did you mean 'png'"):
        plots(make_report(), tmp_path, ["pgn"])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="Cannot make the folder"):
        plots(make_report(), tmp_path / "file" / "plots")
    require_plots()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'tfq\[plots\]'"):
        require_plots()
    with pytest.raises(UsageError, match=r"pip install 'tfq\[plots\]'"):
        plots(make_report(), tmp_path)
