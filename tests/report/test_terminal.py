"""The report as lines of a terminal."""

import pytest
from reports import (
    MISFIT,
    bare_report,
    make_report,
    nasty_report,
    null_report,
    widespread_report,
)

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
        widespread_report(),
    ],
    ids=["usual", "large", "bare", "null", "nasty", "widespread"],
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
    assert "the same answer on 96.7 % of 1000 samples; 25 right now wrong, 5 wrong" in text
    assert "cause outliers dominate the range: resnet/stage_0/block_0/conv_2d_3" in text
    assert "remedy Clip the range" in text
    assert "--calibration=percentile:99.99" in text
    assert "second shifted.npz" in text
    assert "WARNING class 7 has only 4 samples." in text


def test_improvements_are_a_line_each():
    text = " ".join(" ".join(console(make_report())).split())
    assert (
        "tried calibration: percentile:99.99 kept of 8 attempts; probabilities 24.3 -> 28.1 dB; "
        "refused: octav, probabilities would lose 0.6 dB "
        "tried bias correction: nothing kept of 5 attempts; refused: 12 of 12 layers, "
        "probabilities[..., 4:10] would lose 4.1 dB "
        "tried equalization: not tried: the statistics given"
    ) in text
    older = make_report()
    del older["improvements"]
    assert "attempts" not in " ".join(console(older))


def test_behaviour_is_a_line_a_probe_and_a_figure_a_model():
    lines = console(make_report())
    at = next(i for i, line in enumerate(lines) if line.startswith("  behaviour"))
    assert [line.strip() for line in lines[at : at + 6]] == [
        "behaviour of saved_model, then int8.tflite",
        "answers that flip under input noise of 1 LSB: 0.400 %, 0.480 %",
        "answers that flip under 2 % more brightness: 1.20 %, 1.44 %",
        "mean confidence in the answer: 81.3 %, 97.5 %",
        "generalisation: top-1 accuracy lost: 6.60 %, 7.92 %",
        "",
    ]


def test_outputs_that_are_no_classes_move_instead_of_flip():
    report = make_report()
    report["behaviour"] = [b for b in report["behaviour"] if b["name"] in ("moved_noise", "x")]
    text = "\n".join(console(report))
    assert "how far the output moves under noise: 2.10 %, 2.52 %" in text


def test_what_was_measured_on_what_is_in_the_line_of_the_data():
    report = make_report()
    lines = " ".join(" ".join(console(report)).split())
    assert "classification on output probabilities (scores are probabilities)" in lines
    task = {"name": "image", "output": "y", "classes": None, "class_names": None}
    report["tasks"] = [task]
    assert "image on output y " in " ".join(" ".join(console(report)).split()) + " "
    task["data_range"] = 255.0
    assert "image on output y (range of values 255)" in " ".join(" ".join(console(report)).split())
    report["tasks"] = [{**task, "name": "segmentation", "data_range": None, "ignore_index": 0}]
    lines = " ".join(" ".join(console(report)).split())
    assert "segmentation on output y (label 0 is ignored)" in lines


@pytest.mark.parametrize(
    ("value", "half", "change", "shown"),
    [
        (0.45150211, 0.06, 0.000083, "0.4516 (0.3916 to 0.5116), difference +0.0001 (0.0000 to"),
        (1.0, 1e-9, -1e-8, "1.0000 (1.0000 to 1.0000), difference 0.0000"),
        (64.8, 2.4, -2.0, "62.8 (60.4 to 65.2), difference -2.0"),
        (0.0123456, 0.001, 0.0001, "0.01245 (0.01145 to 0.01345), difference +0.00010"),
        (1234.5678, 0.01, 0.0, "1234.6 (1234.6 to 1234.6)"),
    ],
)
def test_decimals_mean_something(value, half, change, shown):
    report = make_report()
    metric = report["metrics"][0]
    metric["unit"] = ""
    for v, off in zip(metric["values"], (0, change), strict=True):
        v |= {"value": value + off, "low": value + off - half, "high": value + off + half}
    spread = abs(change) * 0.9
    metric["differences"][0] |= {"value": change, "low": change - spread, "high": change + spread}
    text = " ".join(" ".join(console(report, 200)).split())
    assert f"int8.tflite: {shown}" in text


def test_metrics_without_values_have_no_heading():
    report = make_report()
    for m in report["metrics"]:
        if m["data"] == 2:
            m |= {"values": [], "differences": []}
    second = "\n".join(console(report)).partition("second ")[2]
    assert "metric" not in second
    assert "flips" in second


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


def test_parts_that_are_lost_are_said():
    text = " ".join(" ".join(console(make_report())).split())
    assert "probabilities[..., 0:4] 51.2 dB, 0 to 640 in 255 steps part" in text
    assert "probabilities[..., 4:10] -0.4 dB, 0 to 0.930 in 0.370 steps: LOST" in text


def test_sections_without_data_are_left_out():
    lines = console(bare_report())
    assert [line.split()[0] for line in lines] == ["verdict", "data", "model"]
    assert lines[1].endswith("random, without labels")


def test_values_that_are_not_defined_are_said():
    text = " ".join(console(null_report()))
    assert "not defined" in text
    assert "None" not in text
    assert "nan" not in text


def test_a_cause_of_many_layers_names_three_more():
    report = widespread_report()
    text = " ".join(" ".join(console(report, 500)).split())
    a, b, c = (report["layers"][1]["tensors"][i]["layer"] for i in (4, 5, 6))
    assert f"also of: {a}, {b}, {c} and 5 more " in text
    # Without names of layers those of the tensors, and its own is not repeated.
    assert f"also of: {report['layers'][1]['tensors'][12]['name']} The widest" in text
    assert text.count("also of") == 2


def test_samples_that_do_not_fit_are_said_right_after_the_verdict():
    lines = console(widespread_report(), 500)
    assert lines[1] == f"  WARNING   {MISFIT}"
    text = "\n".join(lines)
    assert text.count(MISFIT) == 1
    assert text.index("  data ") < text.index("appear twice") < text.index("class 7 has")


def test_small_numbers_and_small_counts_are_said_as_a_person_says_them():
    report = make_report()
    first, second = report["metrics"][0], report["metrics"][1]
    first["differences"][0] |= {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    second["differences"][0]["p"] = 0.00001
    report["agreement"][0] |= {"same": 1.0, "samples": 1, "p": 0.125}
    text = " ".join(" ".join(console(report, 200)).split())
    assert "int8.tflite: 62.8 (60.4 to 65.2), no difference" in text
    assert "no difference, p" not in text
    assert ", p < 0.0001" in text
    assert "the same answer on 100 % of 1 sample; 25 right now wrong" in text
    assert "5 wrong now right, p = 0.13" in text


def test_the_classes_that_lose_most_are_named():
    report = make_report()
    text = "\n".join(console(report))
    at = text.index("classes   IoU of the classes that lose most, %: saved_model, then int8.tflite")
    assert [line.strip() for line in text[at:].splitlines()[1:7]] == [
        "class 6 (5.2 % of the pixels): 78.0, 72.0",
        "class 13 (3.7 % of the pixels): 64.0, 58.0",
        "class 20 (2.2 % of the pixels): 50.0, 44.0",
        "class 27 (0.65 % of the pixels): 36.0, 30.0",
        "class 5 (5.4 % of the pixels): 80.0, 75.0",
        "and 25 more classes",
    ]
    alone = "\n".join(console(make_report(models=1)))
    assert "IoU of the classes with the least, %: saved_model" in alone
    assert alone.index("class 29 (") < alone.index("class 27 (")


def test_several_outputs_are_told_apart():
    report = make_report()
    report["tasks"].append({**report["tasks"][0], "output": "other"})
    text = "\n".join(console(report))
    assert "metric    probabilities: top-1 accuracy [%]" in text
    assert "flips     probabilities: int8.tflite: the same answer" in text
    assert "probabilities: IoU of the classes" in text
    assert "probabilities: answers that flip" in text
