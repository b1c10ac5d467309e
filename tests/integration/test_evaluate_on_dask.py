"""The whole of an evaluation, and calibration, on a cluster that loses a worker on the way."""

import importlib.util
import os
import signal

import numpy as np
import pytest
from classifiers import classifier, labelled
from dask_cluster import Cluster
from small_models import draw

from tfq.calibrate.run import calibrate
from tfq.convert import convert_model
from tfq.evaluate import evaluate_model
from tfq.executors import open_workers
from tfq.report import to_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None, reason="pip install 'tfq[dask]'"
    ),
]


@pytest.fixture
def cluster(tmp_path):
    opened = Cluster(tmp_path)
    opened.workers = [opened.worker(), opened.worker()]
    yield opened
    opened.close()


def test_an_evaluation_that_loses_a_worker_is_the_same_to_the_bit(cluster, monkeypatch):
    monkeypatch.setattr("tfq.evaluate.samples._BLOCK_ROWS", 16)
    models, data = list(classifier()), labelled()
    alone = evaluate_model(models, data, layer_samples=24, probes=40)
    stages = []

    def progress(stage, done, total):
        stages.append(stage)
        if stage.startswith("Running") and done and len(cluster.workers) == 2:
            os.killpg(cluster.workers.pop().pid, signal.SIGKILL)

    shared = evaluate_model(
        models,
        data,
        layer_samples=24,
        probes=40,
        scheduler=cluster.address,
        progress=progress,
    )
    assert len(cluster.workers) == 1
    assert any(s.startswith("Layers") for s in stages)
    assert to_json(shared.report) == to_json(alone.report)


def test_calibration_that_loses_a_worker_gives_the_same_file(cluster, monkeypatch):
    monkeypatch.setattr("tfq.observe.loop._BLOCK_SAMPLES", 8)
    source, _ = classifier()
    samples = draw(source, 80)
    alone = calibrate(source, samples)

    def progress(done):
        if len(cluster.workers) == 2:
            os.killpg(cluster.workers.pop().pid, signal.SIGKILL)

    with open_workers(scheduler=cluster.address) as workers:
        shared = calibrate(source, samples, workers=workers, progress=progress)
    assert shared == alone
    x = np.concatenate([next(iter(s.values())) for s in samples])
    one, other = (convert_model(source, x, scheduler=where) for where in (None, cluster.address))
    assert one.model == other.model
