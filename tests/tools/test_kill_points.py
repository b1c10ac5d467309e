"""A few of the points at which `tools/kill_points.py` kills tfq."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from small_models import Net

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "kill_points.py"


@pytest.mark.slow
def test_a_killed_conversion_leaves_no_process_no_half_file_and_nothing_after_the_next(tmp_path):
    net = Net()
    x = net.input(1, 8, name="x")
    y = net.op("TANH", net.op("ADD", x, net.const(net.rng.normal(size=(1, 8)))))
    model = net.model(y)
    (tmp_path / "net.tflite").write_bytes(model.to_bytes())
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(64, 8)).astype("f4"))
    command = [
        sys.executable,
        str(TOOL),
        "--points=8",
        "--cases=writer,plans,convert,convert_workers",
    ]
    files = [f"--source={tmp_path / 'net.tflite'}", f"--data={tmp_path / 'data.npz'}"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "8 points, 0 faults"
