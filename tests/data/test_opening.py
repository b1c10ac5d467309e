import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfq.data import ArgSpec, open_data, save_representative_dataset, saved_data_path
from tfq.errors import DataError, UsageError

ONE = ArgSpec("x", "serving_default_x:0", (1, 2), "float32")
X = np.arange(20.0).reshape(10, 2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_data", "my_data.helper", "my_data.loader", "short", "broken", "lacking"):
        sys.modules.pop(name, None)


def test_module_and_callable(here):
    (here / "my_data").mkdir()
    (here / "my_data" / "helper.py").write_text("VALUES = [[1.0, 2.0], [3.0, 4.0]]\n")
    (here / "my_data" / "loader.py").write_text(
        "def samples():\n    from my_data.helper import VALUES\n    yield from VALUES\n"
        "class Loader:\n    @staticmethod\n    def arrays():\n        return {'x': [[5.0, 6.0]]}\n"
    )
    source = open_data("my_data.loader:samples", [ONE])
    assert source.description == "my_data.loader:samples"
    assert [s.inputs["x"].tolist() for s in source] == [[[1, 2]], [[3, 4]]]
    (sample,) = open_data("my_data.loader:Loader.arrays", [ONE])
    assert sample.inputs["x"].tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("no_such_module_here:f", UsageError, "no module 'no_such_module_here'"),
        ("short:samlpes", UsageError, "Did you mean 'samples'"),
        ("short:VALUE", UsageError, "not callable; it is a int"),
        ("broken:f", DataError, "ZeroDivisionError"),
        ("lacking:f", DataError, "module_that_is_not_there"),
    ],
)
def test_modules_that_do_not_work(here, name, error, message):
    (here / "short.py").write_text("VALUE = 1\ndef samples():\n    return []\n")
    (here / "broken.py").write_text("1 / 0\n")
    (here / "lacking.py").write_text("import module_that_is_not_there\n")
    with pytest.raises(error, match=message):
        open_data(name, [ONE])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit.npz", "no data at 'digit.npz'.*Did you mean 'digits.npz'"),
        ("synthetc", "Did you mean 'synthetic'"),
        ("nowhere/at/all.npz", "no data at"),
        ("file.xls", "no known kind"),
    ],
)
def test_paths_that_do_not_work(here, name, message):
    np.savez(here / "digits.npz", x=X)
    (here / "file.xls").write_text("1,2\n")
    with pytest.raises(DataError, match=message):
        open_data(name, [ONE])


def test_a_saved_model_folder_with_samples(here):
    (here / "saved_model.pb").write_bytes(b"")
    save_representative_dataset(here, {"x": X})
    assert len(list(open_data(here, [ONE]))) == 10


def test_saved_data_path(here):
    assert saved_data_path(here) is None
    (here / "saved_model.pb").write_bytes(b"")
    assert save_representative_dataset(here, X) == saved_data_path(here)


def test_nothing_heavy_is_imported():
    code = (
        "import sys, tfq.data\n"
        "heavy = {'tensorflow', 'keras', 'PIL', 'google.protobuf', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
