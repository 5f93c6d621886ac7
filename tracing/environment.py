"""What a run should say about where it ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import sys
from typing import Any

_PACKAGES = ("dataflow-workbench", "numpy", "ml-dtypes", "tensorboard", "tensorboardX")
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "PYTHONHASHSEED",
)


def describe() -> dict[str, Any]:
    """The program that runs, the machine, the versions, and the variables that change how fast NumPy is, as JSON values."""
    return {
        "argv": list(sys.argv),
        "directory": _directory(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed under the process
        return ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
