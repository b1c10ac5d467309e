"""The libraries that metrics come from: imported when a metric needs one, never before."""

from __future__ import annotations

import importlib
from typing import Any

from tfq.errors import UsageError

_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "pycocotools": "pycocotools",
}


def library(module: str, use: str) -> Any:
    """Imports `module`, or says how to install it.

    Args:
      module: "sklearn.metrics", ...
      use: what it is needed for: "ROC AUC".

    Raises:
      UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        root = module.partition(".")[0]
        if e.name is None or e.name.partition(".")[0] != root:
            raise
        raise UsageError(
            f"{use} needs {_DISTRIBUTIONS[root]}, which is not installed. "
            f"Install it with: pip install 'tfq[metrics]'"
        ) from None
