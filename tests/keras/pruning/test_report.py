"""The report against counts of one's own, of models and of files."""

import gzip

import numpy as np
import pytest
from small_nets import digits, scrambled, tower

import tfq
from tfq.errors import UsageError
from tfq.keras.pruning import prune, pruning_report, remove_channels

pytestmark = pytest.mark.slow


def test_a_keras_model() -> None:
    model = scrambled(tower())
    prune(
        model,
        0.5,
        rules=[
            {"regex": "conv1", "pattern": "2:4"},
            {"regex": "hidden", "sparsity": 0.25, "pattern": "block"},
            {"regex": "conv0", "pattern": "channels"},
        ],
    ).begin()
    report = pruning_report(model, block=(4, 1))
    rows = {r["name"]: r for r in report["layers"]}
    for name, row in rows.items():
        kernel = model.get_layer(name).kernel.numpy()
        assert row["parameters"] == kernel.size
        assert row["zeros"] == (kernel == 0).sum()
        assert row["distinct"] == len(np.unique(kernel))
    assert rows["conv1"]["patterns"] == ["2:4"]
    assert rows["scores"]["patterns"] == []
    assert rows["hidden"]["zero_blocks"] == pytest.approx(0.25)
    assert (rows["conv0"]["zero_channels"], rows["conv0"]["channels"]) == (4, 8)
    assert report["zeros"] == sum(r["zeros"] for r in rows.values())
    text = str(report)
    assert "conv1" in text
    assert "4 of 8 channels zero" in text
    assert "do not make inference faster" in " ".join(text.split())


def test_files_and_a_baseline(tmp_path) -> None:
    x = digits()[0][:40]
    dense = scrambled(tower())
    sparse = scrambled(tower())
    prune(sparse, 0.7).begin()
    files = [tfq.convert_model(m, x).model for m in (dense, sparse, remove_channels(dense, 0.5))]
    path = tmp_path / "sparse.tflite"
    path.write_bytes(files[1])
    report = pruning_report(path, files[0], rounds=3)
    assert (report["kind"], report["bytes"]) == ("tflite", len(files[1]))
    assert report["gzip_bytes"] == len(gzip.compress(files[1], 9, mtime=0))
    assert report["sparsity"] == pytest.approx(0.7, abs=0.01)
    assert report["baseline"]["same_shapes"]
    assert report["baseline"]["gzip_bytes"] > report["gzip_bytes"]
    assert "that difference is noise" in str(report)
    smaller = pruning_report(files[2], files[0], rounds=3)
    assert not smaller["baseline"]["same_shapes"]
    assert smaller["bytes"] < len(files[0])
    assert "noise" not in str(smaller)


def test_patterns_are_seen_in_files() -> None:
    model = scrambled(tower())
    prune(model, pattern="2:4", rules=[{"regex": "conv0|scores", "sparsity": 0}]).begin()
    file = tfq.convert_model(model, digits()[0][:40]).model
    found = [r["patterns"] for r in pruning_report(file)["layers"]]
    assert found == [[], ["2:4"], ["2:4"], []]


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(UsageError, match="convert both"):
        pruning_report(tower(), b"")
    with pytest.raises(UsageError, match="There is no file"):
        pruning_report("missing.tflite")
    with pytest.raises(UsageError, match="Received: int"):
        pruning_report(tfq.convert_model(tower(), digits()[0][:8]).model, 3)
