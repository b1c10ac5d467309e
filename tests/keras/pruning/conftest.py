"""Lets tests in this folder import the builders beside this file (small_nets)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _seeded():
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
