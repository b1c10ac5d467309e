"""Lets tests here import the network beside this file (two_layers)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
