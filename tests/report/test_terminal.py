"""The report as lines of a terminal."""

import pytest
from reports import bare_report, make_report, nasty_report, null_report

from tfq.report import console


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "report",
    [
        make_report(),
        make_report(layers=500, models=6, analysed=5),
        bare_report(),
        null_report(),
        nasty_report(),
    ],
    ids=["usual", "large", "bare", "null", "nasty"],
)
def test_lines_fit_and_drive_no_terminal(report, width):
    lines = console(report, width)
    assert len(lines) >= 3
    assert max(len(line) for line in lines) <= width
    assert all(c.isprintable() for line in lines for c in line)
    assert not any(line.endswith(" ") for line in lines)


def test_what_is_said():
    report = make_report(layers=30)
    lines = console(report)
    text = " ".join(" ".join(lines).split())
    assert text.startswith("verdict int8.tflite is not good enough: top-1 accuracy drops by 2.0")
    assert "saved_model: float32, 351.2 KB, reference" in text
    assert "int8.tflite: int8, full integer, 98.3 KB" in text
    assert "int8.tflite: 62.8 (60.4 to 65.2), difference -2.0 (-3.1 to -0.9), p = 0.0006" in text
    # Small numbers keep two digits of their interval.
    assert "0.000400 (0.000200 to 0.000600), difference +0.000100" in text
    assert "the same answer on 96.7% of 1000 samples; 25 right now wrong, 5 wrong" in text
    assert "cause outliers dominate the range: resnet/stage_0/block_0/conv_2d_3" in text
    assert "remedy Clip the range" in text
    assert "--calibration=percentile:99.99" in text
    assert "second shifted.npz" in text
    assert "WARNING class 7 has only 4 samples." in text


def test_the_ten_worst_layers_in_order():
    report = make_report(layers=60)
    lines = console(report)
    start = next(i for i, line in enumerate(lines) if "isolated" in line and "running" in line)
    rows = lines[start + 1 : start + 11]
    values = [float(row.split()[0]) for row in rows]
    assert values == sorted(values)
    known = [t["isolated"] for t in report["layers"][0]["tensors"] if t["isolated"]]
    lowest = min(r["sqnr_db"] for r in known if r["sqnr_db"] is not None)
    assert values[0] == pytest.approx(lowest, abs=0.05)


def test_layers_without_isolated_readings_are_ranked_as_they_run():
    report = make_report(layers=20)
    for t in report["layers"][0]["tensors"]:
        t["isolated"] = None
    lines = console(report)
    start = next(i for i, line in enumerate(lines) if "isolated" in line and "running" in line)
    assert [row.split()[0] for row in lines[start + 1 : start + 11]] == ["-"] * 10


def test_sections_without_data_are_left_out():
    lines = console(bare_report())
    assert [line.split()[0] for line in lines] == ["verdict", "data", "model"]
    assert lines[1].endswith("random, without labels")


def test_values_that_are_not_defined_are_said():
    text = " ".join(console(null_report()))
    assert "not defined" in text
    assert "None" not in text
    assert "nan" not in text
