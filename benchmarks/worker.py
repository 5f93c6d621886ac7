"""One library in one process: runs cases when told to on standard input, answers on standard output, a JSON object a line.

``worker.py LIBRARY CORES`` pins itself to the cores ("0,1") before it imports what counts them.  First it tells versions.

    {"prepare": NAME}             makes a case ready, runs it `checks` times, answers with values of the results
    {"measure": NAME, "calls": N} times N calls; answers with seconds a call, and the wall's, with setups
    {"forget": NAME}              drops what the case holds
    {"memory": NAME, "steps": N}  in a fresh process: the peak of resident memory over N runs (see `Worker.memory`)

What goes wrong in a case is answered with {"error": TEXT}.  Whatever the library prints goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cases import Prepared

HERE = Path(__file__).resolve().parent
VALUES = 512
"""How many values of a result are compared; of larger ones, as many that are evenly spaced, and their sum."""


def load(library: str) -> Any:
    """The module that cases are written against: the engine, `tensorflow.compat.v1`, `torch` or `jax`."""
    if library == "engine":
        sys.path.insert(0, str(HERE.parent))
    if library == "tensorflow":
        tf = importlib.import_module("tensorflow.compat.v1")
        tf.disable_v2_behavior()
        return tf
    if library == "torch":
        torch = importlib.import_module("torch")
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        return torch
    return importlib.import_module(library)


def sample(result: Any) -> dict[str, Any]:
    """Shape and values of a result, for the comparison."""
    import numpy as np

    array = np.asarray(result, dtype=np.float64)
    flat = array.ravel()
    chosen = flat[:: max(1, -(-flat.size // VALUES))]
    return {"shape": list(array.shape), "values": [*chosen.tolist(), float(flat.sum())]}


def status(field: str) -> int:
    """A figure of /proc/self/status in bytes: VmRSS, resident memory now; VmHWM, its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise LookupError(f"/proc/self/status has no {field}")


RECORDED = 200  # calls a recording has at least: what it does once, when it begins, is not what a step costs


class Worker:
    """The cases prepared so far."""

    def __init__(self, library: str) -> None:
        from cases import all_cases

        self.library = library
        self.module = load(library)
        self.cases = all_cases()
        self.prepared: dict[str, Prepared] = {}

    def versions(self) -> dict[str, str]:
        import numpy as np

        found = {"python": sys.version.split()[0], "numpy": np.__version__}
        version = getattr(self.module, "VERSION", None) or getattr(self.module, "__version__", None)
        if version is not None:
            found[self.library] = str(version)
        return found

    def prepare(self, name: str) -> dict[str, Any]:
        case = self.cases[name]
        made = self.prepared[name] = case.prepared(self.library, self.module)
        with made.around() if made.around else nullcontext():
            results = [_once(made) for _ in range(case.checks)]
        return sample(results)

    def forget(self, name: str) -> dict[str, Any]:
        self.prepared.pop(name, None)
        gc.collect()
        return {}

    def measure(self, name: str, calls: int) -> dict[str, Any]:
        made = self.prepared[name]
        if made.around:
            calls = max(calls, RECORDED)
        started = time.perf_counter()
        with made.around() if made.around else nullcontext():
            if made.around:
                _once(made)
            taken = _plain(made, calls) if made.setup is None else _with_setup(made, calls)
        return {"seconds": taken / calls, "wall": (time.perf_counter() - started) / calls}

    def memory(self, name: str, steps: int) -> dict[str, Any]:
        """Bytes resident once the library is warm (it has run a scalar), and at the peak of `steps` runs of the case.

        The peak is the kernel's own, set back before the case is made: graph, plans, weights, slots and all that steps need.
        """
        self.prepare("scalar_feed")
        gc.collect()
        warm = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        self.prepare(name)
        self.measure(name, steps)
        return {"warm": warm, "peak": status("VmHWM")}

    def answer(self, told: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question: its first key is the method, with that key's value as the name of the case."""
        method, *options = told
        try:
            found: dict[str, Any] = getattr(self, method)(
                told[method], **{option: told[option] for option in options}
            )
            return found
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            return {"error": f"{type(error).__name__}: {lines[0]}"}


def _once(made: Prepared) -> Any:
    return made.run() if made.setup is None else made.run(made.setup())


def _plain(made: Prepared, calls: int) -> float:
    run, clock = made.run, time.perf_counter
    started = clock()
    for _ in range(calls):
        run()
    return clock() - started


def _with_setup(made: Prepared, calls: int) -> float:
    assert made.setup is not None
    clock, taken = time.perf_counter, 0.0
    for _ in range(calls):
        prepared = made.setup()
        started = clock()
        made.run(prepared)
        taken += clock() - started
    return taken


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library, cores = sys.argv[1:3]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    sys.path.insert(0, str(HERE))
    worker = Worker(library)
    print(json.dumps(worker.versions()), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
