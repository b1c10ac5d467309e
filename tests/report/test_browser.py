"""The page in Debian's Chromium, as a person uses it."""

import importlib.resources
import re
import shutil

import numpy as np
import pytest
from reports import (
    MISFIT,
    bare_report,
    make_report,
    nasty_report,
    null_report,
    widespread_report,
)

from tfq.report import console, page
from tfq.report.digits import chance, fixed

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs Chromium: apt-get install chromium", allow_module_level=True)

pytestmark = pytest.mark.slow

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a report from a file; at the end nothing may have failed or asked for the network."""
    problems = []
    contexts = []

    def opened(report, size=None, **options):
        path = tmp_path / "report.html"
        path.write_bytes(page(report))
        context = browser.new_context(viewport=size or DESKTOP, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda m: problems.append(f"{m.type}: {m.text}"))
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.on(
            "request",
            lambda r: r.url == path.as_uri() or r.url == "data:," or problems.append(r.url),
        )
        tab.goto(path.as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def widths(tab):
    root = "document.documentElement"
    return tab.evaluate(f"[{root}.scrollWidth, {root}.clientWidth]")


def column(tab, key):
    """The texts of a column of the table of layers, from top to bottom."""
    at = tab.locator("table.layers > thead th").evaluate_all(
        "(heads, key) => heads.findIndex((h) => h.dataset.key === key)", key
    )
    return tab.locator("table.layers > tbody > tr.row").evaluate_all(
        "(rows, at) => rows.map((r) => r.children[at].innerText.trim())", at
    )


def numbers(texts):
    return [float(t.replace("−", "-")) for t in texts if t not in ("–", "exact")]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1280", "390"])
@pytest.mark.parametrize(
    "report",
    [
        make_report(layers=10),
        make_report(layers=40, models=6, analysed=5, classes=100),
        make_report(models=1),
        make_report() | {"layers": []},
        bare_report(),
        null_report(),
        nasty_report(),
        widespread_report(),
    ],
    ids=["usual", "six models", "one model", "no layers", "bare", "null", "nasty", "widespread"],
)
def test_opens_without_errors_network_or_sideways_scrolling(show, report, size):
    tab = show(report, size)
    assert tab.locator("#verdict p").first.inner_text() == report["verdict"]["text"]
    wide, room = widths(tab)
    assert wide <= room
    assert tab.evaluate("window.hacked") is None
    assert "undefined" not in tab.locator("main").inner_text()
    assert "NaN" not in tab.locator("main").inner_text()
    assert "null" not in tab.locator("main").inner_text()


def test_sections_come_in_order_and_only_with_data(show):
    tab = show(make_report())
    ids = tab.locator("main > section").evaluate_all("(all) => all.map((s) => s.id)")
    assert ids == [
        "verdict", "models", "metrics", "agreement", "classes", "findings", "worst", "graph",
        "layers", "outputs", "improvements", "reliability", "confusion", "behaviour", "sizes",
        "interface", "second", "warnings", "made",
    ]  # fmt: skip
    links = tab.locator("nav.contents a").evaluate_all("(all) => all.map((a) => a.hash.slice(1))")
    assert links == ids[1:]
    tab = show(null_report())
    assert tab.locator("#worst").count() == tab.locator(".profile").count() == 0
    assert tab.locator("#graph").count() == 1
    tab = show(bare_report())
    ids = tab.locator("main > section").evaluate_all("(all) => all.map((s) => s.id)")
    assert ids == ["verdict", "models", "interface", "made"]


def test_parts_of_an_output_have_rows_of_their_own(show):
    tab = show(make_report())
    rows = tab.locator("#outputs tbody tr").all_inner_texts()
    assert rows[2].startswith(
        "int8.tflite\tprobabilities[..., 4:10]: 0 to 0.930 in 0.37 steps\t−0.4\t"
    )
    assert len(rows) == 2 + len(make_report()["outputs"])


def test_improvements_say_what_was_kept_and_what_was_refused(show):
    tab = show(make_report())
    rows = [r.split("\t") for r in tab.locator("#improvements tbody tr").all_inner_texts()]
    lost = "would lose 0.6 dB"
    assert rows[0] == [
        "calibration", "8", "percentile:99.99", "probabilities", "24.3", "28.1",
        f"octav: probabilities {lost}",
    ]  # fmt: skip
    assert [r[3:6] for r in rows[1:4]] == [
        ["probabilities before SOFTMAX", "21.0", "23.4"],
        ["probabilities", "28.1", "would be 30.2"],
        ["probabilities[..., 4:10]", "exact", "would be 25.0"],
    ]
    assert rows[2][2] == "nothing"
    assert rows[2][6] == "12 of 12 layers: probabilities[..., 4:10] would lose 4.1 dB"
    assert rows[4][2:] == ["not tried", "–", "–", "–", make_report()["improvements"][2]["note"]]
    # Which model is said where there are several; what is much has to be asked for.
    tab = show(make_report(layers=4, models=6, analysed=1))
    assert tab.locator("#improvements tbody tr").count() == 25
    assert "old.tflite" in tab.locator("#improvements details th").last.text_content()
    assert show(bare_report()).locator("#improvements").count() == 0


def test_the_classes_of_a_segmentation_that_lose_most_come_first(show):
    tab = show(make_report())
    rows = tab.locator("#classes tbody").first.locator("tr")
    assert rows.count() == 24
    cells = rows.first.locator("th, td").all_inner_texts()
    assert cells == ["class 6", "5.2 %", "78.0", "72.0", "−6.0", "89.0", "89.0"]
    assert "465 000 labelled pixels; 1 234 ignored" in tab.locator("#classes").inner_text()
    assert tab.locator("#classes details summary").inner_text() == "6 more"
    report = make_report()
    report["tasks"].append({**report["tasks"][0], "output": "other"})
    tab = show(report)
    assert "probabilities: top-1 accuracy" in tab.locator("#metrics").inner_text()
    assert "probabilities: 465 000 labelled" in tab.locator("#classes").inner_text()


def test_a_difference_that_does_not_matter_is_not_shouted(show):
    report = make_report()
    report["tasks"][0]["scores"] = "logits"
    metric = report["metrics"][1]
    for v in metric["values"]:
        v |= {"value": 0.45150211, "low": 0.39219235, "high": 0.51}
    metric["differences"][0] |= {"value": -0.000083, "low": -0.0001, "high": -0.00006, "p": None}
    report["metrics"][-1] |= {"values": [], "differences": []}
    tab = show(report)
    rows = tab.locator("#metrics tbody").nth(1).locator("tr").all_inner_texts()
    assert "0.4515 (0.3922 to 0.5100)" in rows[2]
    assert "worse, but negligible" in rows[2]
    assert tab.locator("#metrics tbody").nth(1).locator(".chip.bad").count() == 0
    assert tab.locator("#second .metrics").count() == 0
    lead = tab.locator("#models .lead").inner_text()
    assert "classification on output probabilities (scores are logits)." in lead


def test_a_very_large_page_says_what_it_leaves_out(show):
    tab = show(make_report(layers=3000))
    lead = tab.locator("#graph .lead").inner_text()
    assert re.search(r"at most 32 bins and are those of the \d{3,} worst layers;", lead)
    # The worst layer is the chosen one, and has its histogram.
    assert tab.locator(".panel .histogram, .panel figure").count() > 0


def test_metrics_say_what_is_real(show):
    tab = show(make_report(models=3))
    rows = tab.locator("#metrics tbody").first.locator("tr").all_inner_texts()
    assert "top-1 accuracy" in rows[0]
    assert "64.8 (62.4 to 67.2)" in rows[1]
    assert "−2.0 (−3.1 to −0.9)" in rows[2]
    assert "really worse" in rows[2]
    assert "0.0006" in rows[2]
    assert "may be chance" in rows[3]
    tab = show(make_report(models=1))
    assert tab.locator("#metrics h2").inner_text() == "Metrics"
    assert tab.locator("#metrics thead th").all_inner_texts() == [
        "Model",
        "Value (95 % interval)",
    ]


def test_sorts_by_every_column(show):
    tab = show(make_report(layers=60))
    keys = tab.locator("table.layers > thead th").evaluate_all("(a) => a.map((h) => h.dataset.key)")
    assert len(keys) == 14
    for key in keys:
        head = tab.locator(f'th[data-key="{key}"]')
        head.locator("button").click()
        first, up = column(tab, key), head.get_attribute("aria-sort")
        head.locator("button").click()
        second, down = column(tab, key), head.get_attribute("aria-sort")
        assert {up, down} == {"ascending", "descending"}
        assert sorted(first) == sorted(second)
        assert tab.locator('table.layers > thead th:not([aria-sort="none"])').count() == 1
    for key in ("sqnr", "max", "weights"):
        head = tab.locator(f'th[data-key="{key}"]')
        for _ in range(2):
            head.locator("button").click()
            values = numbers(column(tab, key))
            down = head.get_attribute("aria-sort") == "descending"
            assert values == sorted(values, reverse=down)
            assert len(values) > 20
            # What is missing comes last either way.
            assert not column(tab, key)[0].startswith("–")


def test_filters_by_text_and_op(show):
    report = make_report(layers=60)
    tensors = report["layers"][0]["tensors"]
    tab = show(report)
    tab.select_option('select[aria-label="Filter by op"]', "ADD")
    adds = [t["layer"] for t in tensors if t["op"] == "ADD"]
    assert column(tab, "op") == ["ADD"] * len(adds)
    tab.fill('input[type="search"]', "BLOCK_7")
    assert [c.split("\n")[0] for c in column(tab, "layer")] == [a for a in adds if "block_7" in a]
    assert tab.locator('#layers [role="status"]').inner_text() == "1 of 60 tensors"
    tab.fill('input[type="search"]', "nothing of this name")
    assert tab.locator("table.layers .empty").is_visible()
    tab.fill('input[type="search"]', "")
    tab.select_option('select[aria-label="Filter by op"]', "")
    assert len(column(tab, "op")) == 60


def test_a_click_shows_the_histogram(show):
    report = make_report(layers=20)
    tab = show(report)
    row = tab.locator("table.layers tr.row").nth(3)
    row.click()
    assert row.get_attribute("aria-expanded") == "true"
    detail = tab.locator("table.layers tr.opened")
    charts = detail.locator("figure.hist svg")
    assert charts.count() == 2
    values, weights = charts.nth(0), charts.nth(1)
    name = report["layers"][0]["tensors"][3]["name"]
    assert values.get_attribute("aria-label").startswith(f"Values of {name}")
    assert "grid from" in values.get_attribute("aria-label")
    assert values.locator("path.float").bounding_box()["width"] > 100
    assert values.locator("path.quantized").count() == 1
    assert values.locator("line.grid").count() == 2
    assert weights.locator("line.grid").count() == 0
    linear = values.locator("path.float").get_attribute("d")
    tab.locator('input[value="linear"]').check()
    assert detail.locator("path.float").first.get_attribute("d") != linear
    row.click()
    assert detail.count() == 0
    assert row.get_attribute("aria-expanded") == "false"


def test_saturation_is_shaded(show):
    report = make_report(layers=4)
    for t in report["layers"][0]["tensors"]:
        t["grid"] = [t["histogram"]["low"], (t["histogram"]["low"] + t["histogram"]["high"]) / 2]
    tab = show(report)
    tab.locator("table.layers tr.row").nth(1).click()
    chart = tab.locator("tr.opened figure.hist svg").first
    shaded, whole = (
        chart.locator(s).bounding_box()["width"] for s in ("rect.outside", "line.axis >> nth=0")
    )
    assert shaded == pytest.approx(whole / 2, rel=0.05)


def test_the_keyboard_is_enough(show):
    tab = show(make_report(layers=30))
    tab.locator('th[data-key="sqnr"] button').focus()
    tab.keyboard.press("Enter")
    assert tab.locator('th[data-key="sqnr"]').get_attribute("aria-sort") == "ascending"
    tab.locator("table.layers tr.row").first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    focused = "document.activeElement"
    assert tab.evaluate(f"{focused}.previousElementSibling.previousElementSibling !== null")
    tab.keyboard.press("Enter")
    assert tab.evaluate(f"{focused}.getAttribute('aria-expanded')") == "true"
    assert tab.locator("tr.opened figure.hist").count() >= 1
    tab.keyboard.press("Escape")
    assert tab.locator("tr.opened").count() == 0
    tab.locator('[role="listbox"]').focus()
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowDown")
    chosen = tab.locator('[role="option"][aria-selected="true"]')
    assert chosen.get_attribute("data-index") == "1"
    assert tab.locator('[role="listbox"]').get_attribute("aria-activedescendant") == "node-1"
    assert "conv_2d_1" in tab.locator(".panel h3").inner_text()


def test_the_graph_chooses_a_layer(show):
    report = make_report(layers=30)
    tensors = report["layers"][0]["tensors"]
    tab = show(report)
    # The worst one is there at the start.
    known = [(t["isolated"]["sqnr_db"], t["layer"]) for t in tensors if t["isolated"]]
    worst = min((v, layer) for v, layer in known if v is not None)[1]
    assert tab.locator(".panel h3").inner_text() == worst
    tab.locator("#node-7").click()
    assert tab.locator(".panel h3").inner_text() == tensors[7]["layer"]
    # Neighbours lead on.
    tab.locator(".panel .near button").first.click()
    assert tab.locator(".panel h3").inner_text() == tensors[tensors[7]["inputs"][0]]["layer"]
    # No two tensors that live at the same time share a lane.
    nodes = tab.locator(".graph rect.node").evaluate_all("(a) => a.map((n) => n.getAttribute('x'))")
    last = [max([i, *(k for k, t in enumerate(tensors) if i in t["inputs"])]) for i in range(30)]
    for i in range(30):
        assert all(nodes[k] != nodes[i] for k in range(i + 1, last[i]))
    tab.locator('button[aria-label="Smaller"]').click()
    tab.locator('button[aria-label="Smaller"]').click()
    assert tab.locator("#node-7").bounding_box()["height"] == 9


def test_the_reading_switch_changes_figures_and_colors(show):
    report = make_report(layers=30)
    t = report["layers"][0]["tensors"][5]
    t["isolated"]["sqnr_db"], t["accumulated"]["sqnr_db"] = 45.04, 0.54
    tab = show(report)
    before = column(tab, "sqnr")
    assert before[5] == "45.0"
    assert "e1" in tab.locator(".graph rect.node").nth(5).get_attribute("class")
    tab.locator('fieldset[aria-label="Reading"] input[value="accumulated"]').check()
    after = column(tab, "sqnr")
    assert after[5] == "0.5"
    assert "e5" in tab.locator(".graph rect.node").nth(5).get_attribute("class")
    assert tab.locator("#worst tbody tr").first.inner_text().startswith(t["layer"])


def test_another_model_and_a_finding_that_leads_to_its_layer(show):
    report = make_report(layers=12, models=3, analysed=2)
    tab = show(report)
    tab.select_option('#worst select[aria-label="Model"]', "1")
    known = [t["isolated"]["sqnr_db"] for t in report["layers"][1]["tensors"] if t["isolated"]]
    lowest = min(v for v in known if v is not None)
    assert tab.locator("#worst tbody td.n").first.inner_text() == f"{lowest:.1f}"
    tab.locator(".finding .link").first.click()
    finding = report["verdicts"][0]
    assert tab.locator('#graph select[aria-label="Model"]').input_value() == "0"
    assert tab.locator(".panel h3").inner_text() == finding["layer"]
    assert finding["title"] in tab.locator(".panel .note").inner_text()


def test_the_page_opens_on_the_model_that_the_causes_are_about(show):
    report = widespread_report()
    tab = show(report)
    sections = ("worst", "graph", "layers")

    def heads():
        return [tab.locator(f"#{s} h2").inner_text() for s in sections]

    def chosen():
        return [tab.locator(f'#{s} select[aria-label="Model"]').input_value() for s in sections]

    name = report["layers"][1]["model"]
    assert heads() == [f"Worst layers of {name}", f"Graph of {name}", f"All layers of {name}"]
    assert chosen() == ["1", "1", "1"]
    # Each of the three governs all, and keeps the focus.
    for k, s in enumerate(sections):
        picker = tab.locator(f'#{s} select[aria-label="Model"]')
        picker.focus()
        picker.select_option(str(k))
        assert chosen() == [str(k)] * 3
        assert all(head.endswith(f" of {report['layers'][k]['model']}") for head in heads())
        assert tab.evaluate("document.activeElement.closest('section').id") == s
        lowest = min(
            t["isolated"]["sqnr_db"]
            for t in report["layers"][k]["tensors"]
            if t["isolated"] and t["isolated"]["sqnr_db"] is not None
        )
        assert tab.locator("#worst tbody td.n").first.inner_text() == f"{lowest:.1f}"
    # Without causes: the model of the worst layer.
    report["verdicts"] = []
    report["layers"][2]["tensors"][5]["isolated"]["sqnr_db"] = -3.0
    tab = show(report)
    assert chosen() == ["2", "2", "2"]
    # One analysed model is named as well, and there is nothing to choose.
    tab = show(make_report())
    assert heads()[0] == "Worst layers of int8.tflite"
    assert tab.locator('select[aria-label="Model"]').count() == 0


def test_a_cause_marks_every_layer_that_it_covers(show):
    report = widespread_report()
    tensors = report["layers"][1]["tensors"]
    first, second = report["verdicts"][0]["title"], report["verdicts"][1]["title"]
    tab = show(report)
    causes = column(tab, "cause")
    assert [first in c for c in causes] == [3 <= i < 12 for i in range(16)]
    assert [second in c for c in causes] == [i in (7, 12) for i in range(16)]
    assert causes[7] == f"{first}; {second}"
    listed = tab.locator("#worst tbody tr").all_inner_texts()
    assert sum(first in row for row in listed) >= 4
    tab.locator("#node-9").click()
    assert first in tab.locator(".panel .note").first.inner_text()
    # The card lists five more; the others are asked for, and each leads to its layer.
    card = tab.locator(".finding").first
    names = [t["layer"] for t in tensors[4:12]]
    assert card.locator(".also li:visible").all_inner_texts() == names[:5]
    card.locator(".also summary").click()
    assert card.locator(".also li:visible").all_inner_texts() == names
    card.locator(".also button").nth(7).click()
    assert tab.locator(".panel h3").inner_text() == names[7]
    assert "severity 0.92 of 1" in card.inner_text()


def test_samples_that_do_not_fit_stand_under_the_verdict(show):
    report = widespread_report()
    tab = show(report)
    assert tab.locator("#verdict .misfit").inner_text() == MISFIT
    assert tab.locator("#verdict a").inner_text() == "2 warnings"
    assert MISFIT not in tab.locator("#warnings").inner_text()
    report["warnings"] = [MISFIT]
    tab = show(report)
    assert tab.locator("#warnings").count() == tab.locator("#verdict a").count() == 0


def test_the_detail_beside_the_graph_is_whole(show):
    tab = show(make_report(layers=60))
    tab.locator("#node-6").click()
    panel = tab.locator(".panel")
    assert panel.evaluate("(p) => p.scrollHeight - p.clientHeight") == 0
    assert panel.locator("figure.hist").count() == 2
    left, right = (panel.locator("figure.hist svg").nth(i).bounding_box() for i in (0, 1))
    assert left["x"] + left["width"] <= right["x"]
    # Drawn at the size that it has: no letter is smaller than meant.
    assert left["width"] == pytest.approx(
        float(panel.locator("figure.hist svg").first.get_attribute("width")), abs=1
    )
    # The graph stays in sight as long as its panel does.
    panel.locator("dl").scroll_into_view_if_needed()
    tab.evaluate("document.querySelector('.panel').scrollIntoView({block: 'end'})")
    box = tab.locator(".graph").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= DESKTOP["height"]


@pytest.mark.parametrize("models", [2, 4])
def test_what_matters_is_on_the_screen_of_a_phone(show, models):
    report = make_report(layers=40, models=models, analysed=models - 1)
    report["verdicts"][0]["tensors"] = [t["name"] for t in report["layers"][0]["tensors"]]
    tab = show(report, PHONE)

    def right(selector):
        return tab.locator(selector).evaluate_all(
            "(all) => Math.max(...all.map((e) => e.getBoundingClientRect().right))"
        )

    for selector in (
        "#worst td.n",
        "#worst td.cause",
        "#layers tbody td.n:has(> .swatch)",
        "#agreement td",
        "#confusion .matrix td",
        "#outputs td",
        "#behaviour td",
        "#models td",
    ):
        assert 200 < right(selector) <= PHONE["width"], selector
    assert tab.locator("#worst tbody tr").first.locator("td.op").is_visible()
    row = tab.locator("#layers tr.row").nth(3)
    tensor = report["layers"][0]["tensors"][3]
    assert row.locator("th").inner_text().split("\n") == [tensor["layer"], tensor["op"]]
    assert row.locator("td.op").is_hidden()
    flips = tab.locator("#agreement tbody tr").first
    lost = flips.locator("td").nth(1)
    assert lost.inner_text() == "25"
    assert lost.evaluate("(e) => getComputedStyle(e, '::before').content").startswith(
        '"Right, now wrong'
    )
    for box in tab.locator(".stack, .worst, #confusion .scroll").all():
        assert box.evaluate("(b) => b.scrollWidth - b.clientWidth") <= 0


def test_small_words(show):
    report = make_report()
    report["second_data"]["description"] = "noisy.npz, 500 samples"
    report["versions"]["tensorflow"] = "2.21.0"
    for v in (report["metrics"][0]["values"][0], report["metrics"][0]["values"][1]):
        v |= {"value": 92.6, "low": 92.394999999, "high": 92.885}
    report["metrics"][0]["differences"][0] |= {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    report["metrics"][1]["differences"][0]["p"] = 0.125
    report["agreement"][0]["p"] = 0.125
    tab = show(report)
    assert tab.locator("#second .lead").inner_text() == "noisy.npz, 500 samples."
    assert "tensorflow 2.21.0" in tab.locator("#made").inner_text()
    row = tab.locator("#metrics tbody").first.locator("tr").nth(2)
    assert row.locator(".difference").inner_text() == "no difference"
    second = tab.locator("#metrics tbody").nth(1).locator("tr").nth(2)
    assert second.locator("td.n").inner_text() == "0.13"
    assert "0.13" in tab.locator("#agreement tbody tr").first.inner_text()
    # The same digits as in the terminal.
    (line,) = [x for x in console(report, 300) if "saved_model: 92.6" in x]
    assert (
        tab.locator("#metrics tbody").first.locator("tr").nth(1).locator("td").first.inner_text()
        == line.partition("saved_model: ")[2]
    )
    assert "(92.39 to 92.89)" in line
    report["second_data"]["description"] = "noisy.npz"
    lead = show(report).locator("#second .lead").inner_text()
    assert lead == "noisy.npz, 500 samples."


def test_the_page_rounds_as_the_console(browser):
    rng = np.random.default_rng(0)
    values = rng.normal(size=400) * 10.0 ** rng.integers(-4, 5, 400)
    ties = (2 * rng.integers(-5000, 5000, 400) + 1) / 2 / 10.0 ** rng.integers(0, 5, 400)
    sums = ties / 3 - ties / 3 * 4  # Ties but for noise.
    cases = [[float(x), d] for x in (*values, *ties, *sums) for d in (0, 1, 2, 4)]
    dom = importlib.resources.files("tfq.report").joinpath("page", "dom.js").read_text("utf-8")
    tab = browser.new_page()
    shown = tab.evaluate(f"(all) => {{ {dom} return all.map(([x, d]) => fixed(x, d)); }}", cases)
    assert [text.replace("\N{MINUS SIGN}", "-") for text in shown] == [
        fixed(x, d) for x, d in cases
    ]
    chances = [1.0, *(rng.random(200) ** 4).tolist(), *(2.0 ** -np.arange(1, 12)).tolist()]
    shown = tab.evaluate(f"(all) => {{ {dom} return all.map(chance); }}", chances)
    assert shown == [chance(p).removeprefix("= ") for p in chances]
    tab.close()


def test_a_flag_is_copied(show):
    tab = show(make_report(), permissions=["clipboard-read", "clipboard-write"])
    button = tab.locator(".finding .copy button").first
    button.click()
    tab.wait_for_function("(b) => b.textContent === 'Copied'", arg=button.element_handle())
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == make_report()["verdicts"][0]["remedy"]["flag"]


def test_dark_by_system_and_by_button(show):
    def background(tab):
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background(show(make_report()))
    tab = show(make_report(), color_scheme="dark")
    dark = background(tab)
    assert dark != light
    assert tab.locator("#theme").get_attribute("aria-pressed") == "true"
    tab.locator("#theme").click()
    assert background(tab) == light
    tab.locator("#theme").click()
    assert background(tab) == dark


def test_on_paper_everything_is_open_and_nothing_to_press(show):
    report = make_report(layers=30)
    report["verdicts"] = [dict(report["verdicts"][0], severity=0.1) for _ in range(12)]
    tab = show(report, color_scheme="dark")
    assert tab.locator("details[open]").count() == 0
    assert tab.locator("#print-details figure").count() == 0
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.locator("#theme").is_hidden()
    assert tab.locator("#layers .controls").is_hidden()
    assert tab.locator("details[open]").count() == 3  # Causes, and classes of both data sets.
    assert tab.locator(".finding >> nth=11").is_visible()
    assert tab.locator("#print-details .detail").count() == 10
    box = tab.locator(".box")
    assert box.evaluate("(b) => getComputedStyle(b).overflowY") == "visible"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.pdf(format="A4").startswith(b"%PDF")
    tab.emulate_media(media="screen")
    assert tab.locator("#print-details figure").count() == 0
    assert tab.locator("details[open]").count() == 0


def test_500_layers(show):
    report = make_report(layers=500, models=6, analysed=1, classes=100)
    for size in (DESKTOP, PHONE):
        tab = show(report, size)
        wide, room = widths(tab)
        assert wide <= room
        assert tab.locator("table.layers tr.row").count() == 500
        assert tab.locator(".graph rect.node").count() == 500
        tab.fill('input[type="search"]', "block_99/")
        assert len(column(tab, "layer")) == 5
        tab.locator("table.layers tr.row").first.click()
        assert tab.locator("tr.opened figure.hist").count() >= 1
        open_detail = tab.locator("tr.opened .detail").bounding_box()
        assert open_detail["width"] <= tab.locator(".box").bounding_box()["width"]
