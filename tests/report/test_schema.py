"""The shape of a report: what the schema takes, what it refuses, and the bytes."""

import json
import math

import jsonschema
import pytest
from reports import bare_report, make_report, nasty_report, null_report, widespread_report

from tfq.errors import TfqError
from tfq.report import check, load_schema, to_json


def objects(schema):
    """Every schema of an object with named properties, at any depth."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_the_schema_is_one_and_describes_every_field():
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["version"]["const"] == 1
    found = list(objects(schema))
    assert len(found) > 20
    for o in found:
        assert o["additionalProperties"] is False
        optional = set(o["properties"]) - set(o["required"])
        # Older reports lack them.
        added = {"scores", "data_range", "ignore_index", "tensors", "layers", "improvements"}
        assert optional <= added
        assert set(o["required"]) <= set(o["properties"])
        for name, field in o["properties"].items():
            described = field.get("description") or "$ref" in field
            assert described, name


@pytest.mark.parametrize(
    "report",
    [
        make_report(),
        make_report(layers=100, models=6, analysed=5, classes=100),
        make_report(models=1),
        widespread_report(),
        bare_report(),
        null_report(),
        nasty_report(),
    ],
    ids=["usual", "six models", "one model", "widespread", "bare", "null", "nasty"],
)
def test_reports_fit(report):
    check(report)
    assert json.loads(to_json(report)) == report


def test_what_does_not_fit_is_named():
    def segmented(report):
        return report["segmentation"][0]["classes"][0]["values"][0]

    def refused(change, words):
        report = make_report()
        change(report)
        with pytest.raises(TfqError, match=words):
            check(report)

    refused(lambda r: r.update(extra=1), "'extra' was unexpected")
    refused(lambda r: r.pop("metrics"), "'metrics' is a required property")
    refused(lambda r: r["layers"][0]["tensors"][2].update(used=1.5), r"tensors\[2\]\.used")
    refused(lambda r: r["models"][1].update(reference=True), "reference")
    refused(lambda r: r["models"][1].update(name="saved_model"), "one name")
    refused(lambda r: r["verdicts"][0].update(model="other"), "no model 'other'")
    refused(lambda r: r["verdicts"][0].update(tensors=[1]), r"verdicts\[0\]\.tensors\[0\]")
    refused(lambda r: segmented(r).update(model="other"), "no model 'other'")
    refused(lambda r: segmented(r).update(iou=101), r"values\[0\]\.iou")
    refused(lambda r: r["layers"][0]["tensors"][2].update(inputs=[2]), "before its inputs")
    refused(lambda r: r["layers"][0]["tensors"][2]["histogram"]["float"].pop(), "63 and 64 bins")


def test_json_is_deterministic_and_finite():
    report = make_report()
    shuffled = dict(reversed(report.items()))
    assert to_json(report) == to_json(shuffled)
    report["metrics"][0]["values"][0]["value"] = math.nan
    with pytest.raises(TfqError, match="infinite or NaN"):
        to_json(report)
