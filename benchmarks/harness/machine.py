"""The machine: what it is, and something else that keeps it busy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

LIFETIME = 1800
"""Seconds after which a foreign process ends by itself."""

# Ends early when its parent has gone, so that nothing is left behind if the benchmark is killed.
SPIN = """
import os, sys, time
parent, end = os.getppid(), time.monotonic() + float(sys.argv[1])
if sys.argv[2]:
    os.sched_setaffinity(0, [int(core) for core in sys.argv[2].split(",")])
while time.monotonic() < end and os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


class Foreign:
    """A context in which `count` processes do nothing but keep the `cores` busy, each free to run on any of them."""

    def __init__(self, count: int, cores: Sequence[int], lifetime: float = LIFETIME) -> None:
        self.count = count
        self.processes: list[subprocess.Popen[bytes]] = []
        pinned = ",".join(map(str, cores)) if hasattr(os, "sched_setaffinity") else ""
        self._command = [sys.executable, "-c", SPIN, str(lifetime), pinned]

    def __enter__(self) -> Foreign:
        try:
            for _ in range(self.count):
                self.processes.append(subprocess.Popen(self._command))
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(timeout=30)


def available_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def describe() -> str:
    """Processor, its vector units, cores and system in one line."""
    model = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        lines = (line.partition(":") for line in listing.read_text().splitlines())
        facts = {key.strip(): value.strip() for key, _, value in lines}
        vector = [name for name in ("avx2", "avx512f") if name in facts.get("flags", "").split()]
        model = ", ".join([facts.get("model name", model), *vector])
    return f"{model}; {os.cpu_count()} cores; {platform.system()} {platform.release()}"


def load() -> float:
    """How many processes wanted to run over the last minute."""
    return os.getloadavg()[0]
