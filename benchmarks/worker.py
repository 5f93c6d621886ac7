"""One library in one process: runs cases when told to on standard input, answers on standard output, a JSON object a line.

``{"prepare": NAME}`` prepares a case, runs it once and answers with its first values; ``{"measure": NAME, "calls": N}`` times
N calls and answers with seconds a call.  Whatever the library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def load(library: str) -> Any:
    """The module that cases are written against."""
    if library == "engine":
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        import engine

        return engine
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow.compat.v1 as tf  # type: ignore[import-not-found,unused-ignore]

    tf.disable_v2_behavior()
    return tf


class Worker:
    """The cases prepared so far."""

    def __init__(self, library: str) -> None:
        self.tf = load(library)
        self.prepared: dict[str, tuple[Callable[[], Any] | None, Callable[..., Any]]] = {}

    def versions(self) -> dict[str, str]:
        found = {"python": sys.version.split()[0], "numpy": np.__version__}
        if hasattr(self.tf, "VERSION"):
            found["tensorflow"] = str(self.tf.VERSION)
        return found

    def prepare(self, name: str) -> dict[str, Any]:
        from cases import all_cases

        made = all_cases()[name].prepare(self.tf)
        setup, run = made if isinstance(made, tuple) else (None, made)
        self.prepared[name] = setup, run
        value = np.asarray(run() if setup is None else run(setup()), dtype=np.float64)
        return {"shape": value.shape, "values": value.ravel()[:32].tolist()}

    def measure(self, name: str, calls: int) -> dict[str, Any]:
        setup, run = self.prepared[name]
        clock = time.perf_counter
        if setup is None:
            started = clock()
            for _ in range(calls):
                run()
            return {"seconds": (clock() - started) / calls}
        taken = 0.0
        for _ in range(calls):
            prepared = setup()
            started = clock()
            run(prepared)
            taken += clock() - started
        return {"seconds": taken / calls}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    worker = Worker(sys.argv[1])
    print(json.dumps(worker.versions()), file=answers, flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        if "prepare" in told:
            answer = worker.prepare(told["prepare"])
        else:
            answer = worker.measure(told["measure"], told["calls"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
