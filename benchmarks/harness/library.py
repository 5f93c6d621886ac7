"""A library in a worker process, which is started anew when it dies."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent
PATIENCE = 180.0
"""Seconds that an answer may take."""

PACKAGES = {"tensorflow": ("tensorflow-cpu",), "torch": ("torch==2.13.0", "numpy"), "jax": ("jax", "jaxlib")}
"""What is installed where a virtual environment is made for a library."""


class LibraryError(Exception):
    """A library could not run a case, or its process ended; the text says which and why."""


class Library:
    """One library, pinned to `cores`.

    name: "engine", "tensorflow", "torch" or "jax".  python: the interpreter that has it.  quiet: its messages go nowhere.
    """

    def __init__(self, name: str, python: str, cores: Sequence[int], *, quiet: bool = False) -> None:
        self.name = name
        self._command = [python, str(BENCHMARKS / "worker.py"), name, ",".join(map(str, cores))]
        self._threads = str(len(cores))
        self._quiet = quiet
        self._process: subprocess.Popen[str] | None = None
        self.versions = self._start()

    def _start(self) -> dict[str, Any]:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self._quiet else None,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": self._threads,
                "OMP_NUM_THREADS": self._threads,
                "MKL_NUM_THREADS": self._threads,
                "TF_NUM_INTRAOP_THREADS": self._threads,
                "TF_NUM_INTEROP_THREADS": self._threads,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "JAX_PLATFORMS": "cpu",
                "CUDA_VISIBLE_DEVICES": "",
            },
        )
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdout is not None
        # One question is under way at a time, so nothing that was read ahead waits in Python's buffer.
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else ""
        if not line:
            if not ready:
                process.kill()
            code = process.wait(timeout=30)
            self.close()
            how = f"ended with status {code}" if ready else f"gave no answer within {PATIENCE:g} s"
            raise LibraryError(f"the {self.name} process {how}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LibraryError(answer["error"])
        return answer

    def ask(self, **question: Any) -> dict[str, Any]:
        """The worker's answer; a LibraryError if the case failed or the process died (the next question starts another)."""
        if self._process is None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: reading the answer says how
            print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._answer()

    def measure(self, case: str, calls: int) -> tuple[float, float]:
        """(seconds a call, seconds a call that passed with all that is not timed), over so many calls of a prepared case."""
        answer = self.ask(measure=case, calls=calls)
        return float(answer["seconds"]), float(answer["wall"])

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
        process.stdout.close()


def python_of(library: str, given: str | None) -> str:
    """The Python that has `library`: `given`, or that of ``.venv-LIBRARY``, which is made if there is none.

    TensorFlow's and PyTorch's packages take some 300 MB each from the network.
    """
    if given not in (None, "make"):
        assert given is not None
        return given
    folder = ROOT / f".venv-{'tf' if library == 'tensorflow' else library}"
    python = folder / "bin" / "python"
    if not python.exists():
        packages = PACKAGES[library]
        print(f"making {folder} with {' '.join(packages)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)
