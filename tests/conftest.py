"""Lets tests in any folder import the builders beside this file (small_models)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
