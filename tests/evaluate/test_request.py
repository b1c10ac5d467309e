"""Several outputs with labels of their own: what is asked for, and what comes of it."""

import functools
import json

import numpy as np
import pytest
from small_models import Net, draw, plan_of

from tfq.errors import DataError, UsageError
from tfq.evaluate.request import make_request
from tfq.evaluate.run import evaluate_model
from tfq.graph.model import Model, Signature
from tfq.report import check
from tfq.runtime import Runner

METRICS = "seg:miou,cls:top1,box:mae"


@functools.cache
def models():
    """A float model with class map scores, class scores and two numbers; and its int8 file."""
    net = Net()
    x = net.input(1, 10, 10, 3, name="image")
    h = net.conv(x, 6)
    outputs = {"seg": net.conv(h, 5, out="seg_out")}
    mean = net.mean(h)
    outputs["cls"] = net.softmax(net.dense(mean, 4), out="cls_out")
    outputs["box"] = net.dense(mean, 2, out="box_out")
    signature = Signature("serving_default", {"image": x}, outputs)
    source = Model([net.graph(*outputs.values())], [signature]).to_bytes()
    return source, plan_of(source).emit().model.to_bytes()


@functools.cache
def data():
    """Samples, and labels of all outputs that are not all as the float model answers."""
    source = models()[0]
    x = np.concatenate([s["image"] for s in draw(source, 40)])
    runner = Runner(source)
    found = [runner.run({"image": v[None]}) for v in x]
    seg, cls, box = (
        np.concatenate([f[name] for f in found]) for name in ("seg_out", "cls_out", "box_out")
    )
    rng = np.random.default_rng(1)
    maps = seg.argmax(-1).astype(np.uint8)
    maps[rng.random(maps.shape) < 0.1] = 255
    maps[rng.random(maps.shape) < 0.1] = 2
    numbers = cls.argmax(-1)
    numbers[:6] = (numbers[:6] + 1) % 4
    labels = {"seg": maps, "cls": numbers, "box": box + rng.normal(0, 0.05, box.shape)}
    return {"image": x, "y": labels}


def evaluated(labels=None, **options):
    given = data() if labels is None else {"image": data()["image"], "y": labels}
    if len(given["y"]) == 3:
        options = {"metrics": METRICS} | options
    options = {"layers": False, "probes": 0} | options
    return evaluate_model(list(models()), given, **options).report


@pytest.fixture(scope="module")
def together():
    return evaluated(probes=16)


def test_every_labelled_output_has_its_own_task(together):
    check(together)
    assert [(t["name"], t["output"]) for t in together["tasks"]] == [
        ("segmentation", "seg"),
        ("classification", "cls"),
        ("regression", "box"),
    ]
    assert together["task"] == together["tasks"][0]
    text = together["verdict"]["text"]
    assert text.startswith("seg: mean IoU ")
    assert " cls: top-1 accuracy " in text
    assert " box: mean absolute error " in text
    probe_effects = {(b["output"], b["name"]) for b in together["behaviour"]}
    assert {("seg", "flips_noise"), ("cls", "flips_shift"), ("box", "moved_noise")} <= probe_effects
    assert ("seg", "flips_shift") not in probe_effects


@pytest.mark.parametrize("output", ["seg", "cls", "box"])
def test_an_output_has_the_figures_that_it_has_alone(together, output):
    metrics = dict(m.split(":") for m in METRICS.split(","))[output]
    alone = evaluated(data()["y"][output], output=output, probes=16, metrics=metrics)
    for part in ("metrics", "agreement", "confusion", "reliability", "segmentation", "behaviour"):
        assert [r for r in together[part] if r["output"] == output] == alone[part]
    only = evaluated(output=output, probes=16, metrics=metrics)
    assert only["metrics"] == alone["metrics"]
    assert only["tasks"] == alone["tasks"]


def test_workers_and_streams_give_the_same_bytes(together):
    def batches():
        labels = data()["y"]
        for k in range(0, 40, 7):
            yield data()["image"][k : k + 7], {n: v[k : k + 7] for n, v in labels.items()}

    report = evaluate_model(
        list(models()), batches, metrics=METRICS, layers=False, probes=16, workers=2
    ).report
    for part in ("metrics", "segmentation", "agreement"):
        assert json.dumps(report[part]) == json.dumps(together[part])


def test_tasks_and_metrics_by_output():
    labels = dict.fromkeys(("cls", "box"), data()["y"]["cls"])
    as_dicts = evaluated(
        labels,
        task={"box": "embedding", "cls": "classification"},
        metrics={"box": ["cosine"], "cls": "top1,top3"},
    )
    as_text = evaluated(
        labels,
        task="box:embedding,cls:classification",
        metrics="box:cosine,cls:top1,cls:top3",
    )
    assert as_dicts == as_text
    assert [(m["output"], m["name"]) for m in as_text["metrics"]] == [
        ("cls", "top1"),
        ("cls", "top3"),
        ("box", "cosine"),
    ]
    # What is not said of an output is its default.
    report = evaluated(metrics="cls:top1,seg:miou", ignore_index=255)
    assert [m["name"] for m in report["metrics"] if m["output"] == "cls"] == ["top1"]
    assert [m["name"] for m in report["metrics"] if m["output"] == "box"] == ["mae", "rmse", "r2"]


def test_a_second_data_set_with_the_same_outputs():
    report = evaluated(second_data=data())
    gaps = {(b["output"], b["name"]): b["values"][0]["value"] for b in report["behaviour"]}
    assert gaps["seg", "gap_miou"] == gaps["cls", "gap_top1"] == 0
    with pytest.raises(DataError, match=r"for 'cls' and .* for 'box', 'cls', 'seg'"):
        evaluated(
            second_data={"image": data()["image"], "y": {"cls": data()["y"]["cls"]}},
        )


def test_an_output_that_is_named_is_the_one_that_labels_are_of():
    report = evaluated(data()["y"]["box"], task="box:regression")
    assert [t["output"] for t in report["tasks"]] == ["box"]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"mask": 0}, {}, r"labels for 'mask', which is no output.*seg, cls, box"),
        ({"cls": 0}, {"output": "seg"}, r"no labels for the output 'seg', only for 'cls'"),
        ({"cls": 0}, {"task": "seg:regression"}, r"'seg', which is not measured: .*for 'cls'"),
        ({"cls": 0}, {"metrics": "clas:top1"}, r"metric 'clas:top1'|no output 'clas'|no module"),
        ({"cls": 0}, {"output": "clas"}, r"no output 'clas'.*Did you mean 'cls'"),
        ({"cls": 0}, {"data_range": 255.0}, r"--data_range is for the task image"),
        ({"cls": 0}, {"ignore_index": 3}, r"--ignore_index is for the task segmentation"),
        (
            {"cls": 0},
            {"metrics": "cls:miou"},
            r"Output 'cls': .*'miou' does not fit the task class",
        ),
        (
            {"cls": 0, "box": 0},
            {"task": "box:embedding,cls:regression"},
            r"Output 'cls': Labels of",
        ),
        ({"cls": 0}, {"task": "cls:clasification"}, r"Unknown task 'clasification'"),
        ("cls", {"task": "cls:classification,box:regression"}, r"does not say whose its labels"),
    ],
)
def test_choices_that_fit_nothing(labels, options, message):
    known = data()["y"]
    given = known[labels] if isinstance(labels, str) else dict.fromkeys(labels, known["cls"])
    with pytest.raises((DataError, UsageError), match=message):
        evaluated(given, **options)


def test_a_sample_that_lacks_one_of_the_labels_is_named():
    def pairs():
        for i in range(12):
            labels = {"cls": 1, "box": np.zeros(2)}
            if i == 9:
                del labels["box"]
            yield data()["image"][i], labels

    with pytest.raises(DataError, match=r"Sample 9 has no label for the output 'box'; others have"):
        evaluate_model(list(models()), pairs, layers=False, probes=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": 3}, r"task is a name, or names by output\. Received: 3"),
        ({"task": {"cls": 3}}, r"A task is a name: classification.*Received: 3"),
        ({"metrics": 3}, r"metrics are names or functions.*Received: 3"),
        ({"metrics": [3]}, r"metrics are names or functions.*Received: \[3\]"),
        ({"metrics": {"cls": 3}}, r"metrics are names or functions.*Received: 3"),
    ],
)
def test_what_is_no_name_is_refused(options, message):
    given = {"task": None, "metrics": None, **options}
    with pytest.raises(UsageError, match=message):
        make_request(given["task"], given["metrics"], None, {})


def test_samples_that_are_labelled_in_two_ways_are_named():
    def mixed():
        for i in range(12):
            yield data()["image"][i], {"cls": 1} if i % 5 == 4 else 1

    with pytest.raises(DataError, match=r"Sample 4 has labels by output, others have not"):
        evaluate_model(list(models()), mixed, output="cls", layers=False, probes=0)
