"""What a timing on this host is of, and what makes it doubtful."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from tfq.cores import available

# The features that kernels choose by; a processor has a hundred more.
_FEATURES = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "i8mm", "fphp", "bf16", "sme")
# Load that what came before on this host, or this program itself, may have left.
_SLACK = 0.5
_GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def fingerprint() -> dict[str, Any]:
    """Versions, processor, governor ("" where there is none to see) and load average."""
    from tfq import __version__

    model, features = _processor()
    return {
        "tfq": __version__,
        "litert": importlib.metadata.version("ai-edge-litert"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": model,
        "features": features,
        "cores": available(),
        "governor": _read(_GOVERNOR),
        "load": [round(x, 2) for x in os.getloadavg()],
    }


def doubts(found: dict[str, Any], threads: int) -> list[str]:
    """Warnings that follow from a fingerprint."""
    warnings = []
    load, cores = found["load"][0], found["cores"]
    if load + threads > cores + _SLACK:
        warnings.append(
            f"the machine was busy: load average {load:g} on {cores} core{'s' * (cores != 1)}, "
            f"beside {threads} thread{'s' * (threads != 1)} of the model"
        )
    if found["governor"] == "powersave":
        warnings.append("the governor is powersave: the processor may run slower than it can")
    return warnings


def _processor() -> tuple[str, list[str]]:
    model, features = platform.processor(), []
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            model = value
        elif key in ("flags", "Features"):
            features = sorted(f for f in value.split() if f.startswith(_FEATURES))
    return model, features


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
