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
    scripts = elements(report).all("script")
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
def test_the_report_is_in_the_page_to_six_digits(make):
    report = make()
    assert embedded(report) == rounded(report)


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


@pytest.mark.parametrize(("layers", "analysed"), [(500, 1), (500, 5), (3000, 1)])
def test_below_3_mb(layers, analysed):
    report = make_report(layers=layers, models=6, analysed=analysed, classes=100)
    limit = 3_000_000 if layers * analysed <= 500 else 2_400 * layers * analysed
    assert len(page(report)) < limit


def test_large_models_have_fewer_bins_and_all_counts():
    report = make_report(layers=5)
    tensors = make_tensors(1600)
    for t in tensors:
        h = t["histogram"]
        h["float"], h["quantized"] = h["float"] + [1], h["quantized"] + [2]  # 65 bins.
    report["layers"][0]["tensors"] = tensors
    before = tensors[3]["histogram"]
    after = embedded(report)["layers"][0]["tensors"][3]["histogram"]
    merge = math.ceil(65 / len(after["float"]))
    assert merge > 1
    assert sum(after["float"]) == sum(before["float"])
    assert sum(after["quantized"]) == sum(before["quantized"])
    assert after["float"][1] == sum(before["float"][merge : 2 * merge])
    width = (before["high"] - before["low"]) / 65
    assert after["high"] - after["low"] == pytest.approx(width * merge * len(after["float"]), 1e-4)


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
