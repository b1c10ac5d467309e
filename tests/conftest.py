"""Lets tests in any folder import the builders beside this file (small_models)."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """Commands and `convert_model` keep their float conversions in a folder of this test run, not
    in the user's, and convert each model once. What tests the conversion itself calls
    `load_source`, which uses no cache unless it is given one.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # Of all workers.
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(base / "cache")
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
