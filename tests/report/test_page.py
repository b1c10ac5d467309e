"""The page as bytes: what is in it, what cannot break out of it, how large it is."""

import base64
import hashlib
import html.parser
import json
import math
import re

import pytest
from reports import NASTY, bare_report, make_report, make_tensors, nasty_report, null_report

from tfq.report import page


class Elements(html.parser.HTMLParser):
    """Every element with its attributes and the text right behind it."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data

    def all(self, tag):
        return [(attrs, text) for t, attrs, text in self.found if t == tag]


def elements(report):
    return Elements(page(report).decode())


def embedded(report):
    return embedded_in(page(report))


def embedded_in(made):
    scripts = Elements(made.decode()).all("script")
    (text,) = [t for attrs, t in scripts if attrs.get("type") == "application/json"]
    return json.loads(text)


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return value


@pytest.mark.parametrize("make", [make_report, bare_report, null_report, nasty_report])
def test_the_report_is_in_the_page_and_layers_to_six_digits(make):
    report = make()
    assert embedded(report) == report | {"layers": rounded(report["layers"])}


def test_no_name_breaks_out():
    report = nasty_report()
    found = elements(report)
    # The page's own elements and no other: two scripts, no image, nothing with a handler.
    assert [attrs.get("type") for attrs, _ in found.all("script")] == ["application/json", None]
    assert not found.all("img")
    assert not [a for _, attrs, _ in found.found for a in attrs if a.startswith("on")]
    assert [t.strip() for _, t in found.all("title")] == [NASTY[0]]
    assert [t.strip() for _, t in found.all("h1")] == [NASTY[0]]
    # A name that looks like a place of the template is not filled in.
    report["title"] = "{{script}} {{data}}"
    assert [t.strip() for _, t in elements(report).all("title")] == ["{{script}} {{data}}"]


def test_the_policy_allows_this_style_and_this_script_and_no_network():
    found = elements(make_report())
    (policy,) = [a["content"] for a, _ in found.all("meta") if "http-equiv" in a]
    rules = dict(r.strip().split(" ", 1) for r in policy.split(";"))
    text = page(make_report()).decode()
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    # The only address is the name of SVG; nothing is loaded.
    assert set(re.findall(r"https?://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize(
    ("layers", "analysed", "reduced"),
    [(500, 1, False), (500, 5, True), (2000, 1, True), (3000, 1, True)],
)
def test_below_3_mb(layers, analysed, reduced):
    report = make_report(layers=layers, models=6, analysed=analysed, classes=100)
    made = page(report)
    assert len(made) < 3_000_000
    assert ("reduced" in embedded_in(made)) == reduced


def test_names_and_figures_give_way_last():
    report = make_report(layers=3000, models=2)
    for t in report["layers"][0]["tensors"]:
        t["name"] = "model/functional/" + "block/" * 40 + t["name"]
        t["layer"] = t["name"]
    worst = report["layers"][0]["tensors"][7]
    report["verdicts"][0] |= {"tensor": worst["name"], "tensors": [worst["name"]]}
    report["verdicts"][0]["layers"] = [worst["layer"], "short"]
    made = page(report)
    assert len(made) < 3_000_000
    found = embedded_in(made)
    assert found["reduced"]["names"]
    tensors = found["layers"][0]["tensors"]
    assert len(tensors) == 3000
    assert tensors[7]["name"] == "..." + worst["name"][-80:]
    assert found["verdicts"][0]["tensor"] == tensors[7]["name"]
    assert found["verdicts"][0]["tensors"] == [tensors[7]["name"]]
    assert found["verdicts"][0]["layers"] == [tensors[7]["layer"], "short"]
    assert tensors[7]["scale"] == float(f"{worst['scale']:.4g}")


def test_large_models_have_fewer_bins_and_all_counts():
    report = make_report(layers=5)
    tensors = make_tensors(1800)
    for t in tensors:
        h = t["histogram"]
        h["float"], h["quantized"] = h["float"] + [1], h["quantized"] + [2]  # 65 bins.
    report["layers"][0]["tensors"] = tensors
    found = embedded(report)
    assert found["reduced"] == {"bins": 32, "histograms": None, "names": False}
    before, after = tensors[3]["histogram"], found["layers"][0]["tensors"][3]["histogram"]
    assert len(after["float"]) == len(after["quantized"]) == 22
    assert sum(after["float"]) == sum(before["float"])
    assert sum(after["quantized"]) == sum(before["quantized"])
    assert after["float"][1] == sum(before["float"][3:6])
    width = (before["high"] - before["low"]) / 65
    assert after["high"] - after["low"] == pytest.approx(width * 3 * 22, 1e-4)


def test_very_large_models_keep_the_histograms_of_the_worst_layers():
    report = make_report(layers=3000)
    found = embedded(report)
    kept = found["reduced"]["histograms"]
    assert 100 < kept < 3000
    tensors = found["layers"][0]["tensors"]
    assert sum(t["histogram"] is not None for t in tensors) == kept

    def error(t):
        reading = t["isolated"] or t["accumulated"]
        return math.inf if reading["sqnr_db"] is None else reading["sqnr_db"]

    drawn = [error(t) for t in tensors if t["histogram"]]
    left = [error(t) for t in tensors if not t["histogram"]]
    assert max(drawn) <= min(left)
    # Nothing else is missing.
    for t, whole in zip(tensors, report["layers"][0]["tensors"], strict=True):
        whole = rounded(whole)
        for x in (t, whole):
            x["histogram"] = None
            if x["weights"]:
                x["weights"]["histogram"] = None
        assert t == whole


def test_equal_reports_have_equal_pages():
    report = make_report(layers=30)
    assert page(report) == page(json.loads(json.dumps(report, sort_keys=True)))
    assert page(report) != page(make_report(layers=30, seed=1))


def test_numbers_have_to_be_finite():
    report = make_report()
    report["layers"][0]["tensors"][0]["scale"] = math.inf
    with pytest.raises(ValueError, match="not JSON compliant"):
        page(report)


def test_without_scripts_there_is_the_text():
    text = page(make_report()).decode()
    (found,) = re.findall(r"<noscript><pre>(.*?)</pre></noscript>", text, re.DOTALL)
    assert "top-1 accuracy" in found
    assert "percentile:99.99" in found
