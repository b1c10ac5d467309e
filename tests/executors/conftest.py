"""Lets tests and the workers they start import the works beside this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
