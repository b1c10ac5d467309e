"""Lets the tests of this folder import its builders and the one-op cases of tests/graph."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[2] / "graph"):
    sys.path.insert(0, str(folder))
