"""Lets the tests of this folder import the modules beside them (one_op, op_cases, op_truths)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
