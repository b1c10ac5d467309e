"""Node data for Model Explorer."""

import json

import pytest
from reports import bare_report, make_report

from tfq.errors import UsageError
from tfq.report import node_data

INSTALL = "pip install ai-edge-model-explorer"


def test_every_measured_tensor_has_its_value():
    report = make_report(layers=40)
    tensors = report["layers"][0]["tensors"]
    exact = tensors[7]
    exact["isolated"] |= {"sqnr_db": None, "mean_lsb": 0.0, "max_lsb": 0.0}
    for given, reading in ((None, "isolated"), ("accumulated", "accumulated")):
        data = node_data(report, "int8.tflite", given)
        assert data["name"] == f"int8.tflite: {reading} SQNR (dB)"
        assert data["results"] == {
            t["name"]: {"value": round(t[reading]["sqnr_db"], 2)}
            for t in tensors
            if t[reading] and t[reading]["sqnr_db"] is not None
        }
        assert len(data["results"]) > 30
        json.dumps(data, allow_nan=False)
    # An exact tensor has no number.
    assert exact["name"] not in node_data(report, "int8.tflite")["results"]


def test_thresholds_rise_and_cover_every_value():
    data = node_data(make_report(layers=40), "int8.tflite")
    values = [t["value"] for t in data["thresholds"]]
    assert values == sorted(values)
    assert max(r["value"] for r in data["results"].values()) < values[-1]
    assert len({t["bgColor"] for t in data["thresholds"]}) == len(values)


def test_without_isolated_readings_the_accumulated_are_taken():
    report = make_report(layers=10)
    for t in report["layers"][0]["tensors"]:
        t["isolated"] = None
    data = node_data(report, "int8.tflite")
    assert "accumulated" in data["name"]
    assert len(data["results"]) == 10


def test_errors_say_what_there_is():
    with pytest.raises(UsageError, match=r"Unknown analysed model 'int8'.*int8\.tflite"):
        node_data(make_report(), "int8")
    with pytest.raises(UsageError, match=r"Unknown reading 'isolate'.*Did you mean 'isolated'"):
        node_data(make_report(), "int8.tflite", "isolate")
    with pytest.raises(UsageError, match="has no layers"):
        node_data(bare_report(), "saved_model")


def test_model_explorer_takes_it():
    builder = pytest.importorskip("model_explorer.node_data_builder", reason=INSTALL)
    data = node_data(make_report(layers=40), "int8.tflite")
    graph = builder.GraphNodeData(
        name=data["name"],
        results={k: builder.NodeDataResult(**v) for k, v in data["results"].items()},
        thresholds=[builder.ThresholdItem(**t) for t in data["thresholds"]],
        hideInChildrenStatsTable=True,
        hideAggregatedStats=["sum"],
    )
    written = json.loads(graph.to_json_string())
    assert {k: written[k] for k in data} == data
