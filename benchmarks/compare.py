"""Ours against TensorFlow, side by side: ``python benchmarks/compare.py --tf-python PATH/bin/python [CASE …]``.

Each library lives in a process of its own; batches of calls alternate between the two, so that whatever else the machine does
hits both.  Printed is ours ÷ TensorFlow, the median over the rounds, with the quartiles: smaller is better.  Both processes are
pinned to the same cores.  The results of the two libraries are compared first; a case that disagrees is an error.

Without `--tf-python` a virtual environment with `tensorflow-cpu` is made in ``.venv-tf`` (or used, if it is there).
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Library:
    """A worker process."""

    def __init__(self, name: str, python: str, cores: list[int]) -> None:
        self.name = name
        threads = str(len(cores))
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": threads,
                "OMP_NUM_THREADS": threads,
                "TF_NUM_INTRAOP_THREADS": threads,
                "TF_NUM_INTEROP_THREADS": threads,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "",
            },
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, cores)
        self.versions = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            fail(f"the {self.name} process ended; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self._answer()

    def seconds(self, case: str, calls: int) -> float:
        return float(self.ask(measure=case, calls=calls)["seconds"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


@dataclass(frozen=True)
class Row:
    """One case's outcome; times in seconds, the medians over the rounds."""

    title: str
    ours: float
    theirs: float
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, high


def fail(message: str) -> NoReturn:
    raise click.ClickException(message)


def tensorflow_python() -> str:
    """A Python that has TensorFlow, in a virtual environment that is made if need be (half a gigabyte is downloaded)."""
    folder = ROOT / ".venv-tf"
    python = folder / "bin" / "python"
    if not python.exists():
        click.echo(f"making {folder} with tensorflow-cpu", err=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "tensorflow-cpu"], check=True)
    return str(python)


def agree(case: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """The two libraries computed the same, or an error."""
    if ours["shape"] != theirs["shape"] or not np.allclose(
        ours["values"], theirs["values"], rtol=1e-4, atol=1e-5
    ):
        fail(f"{case}: results differ\n  ours       {ours}\n  TensorFlow {theirs}")


def calls_for(library: Library, case: str, batch: float) -> int:
    """How many calls fill `batch` seconds, after enough of them to be warm."""
    calls = 1
    while True:
        taken = library.seconds(case, calls) * calls
        if taken > batch / 4 or calls >= 1 << 20:
            return max(1, round(calls * batch / max(taken, 1e-9)))
        calls *= 4


def compare(case: str, title: str, ours: Library, theirs: Library, rounds: int, batch: float) -> Row:
    """Measure one case: `rounds` pairs of batches, in turns first ours and first theirs."""
    agree(case, ours.ask(prepare=case), theirs.ask(prepare=case))
    pair = (ours, theirs)
    calls = {library: calls_for(library, case, batch) for library in pair}
    times: dict[Library, list[float]] = {library: [] for library in pair}
    for i in range(rounds):
        for library in pair if i % 2 == 0 else pair[::-1]:
            times[library].append(library.seconds(case, calls[library]))
    ratios = tuple(a / b for a, b in zip(times[ours], times[theirs], strict=True))
    return Row(title, statistics.median(times[ours]), statistics.median(times[theirs]), ratios)


def duration(seconds: float) -> str:
    """Seconds with a unit that suits."""
    for limit, scale, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def cells(row: Row) -> tuple[str, ...]:
    low, high = row.quartiles
    return row.title, duration(row.ours), duration(row.theirs), f"{row.ratio:.3g}", f"{low:.3g} – {high:.3g}"


HEADINGS = ("case", "ours", "TensorFlow", "ours ÷ TensorFlow", "quartiles")


def machine() -> str:
    """Processor and cores in one line."""
    model = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        facts = dict(
            (part.strip() for part in line.split(":", 1))
            for line in listing.read_text().splitlines()
            if ":" in line
        )
        vector = [name for name in ("avx2", "avx512f") if name in facts.get("flags", "").split()]
        model = f"{facts.get('model name', model)}, {', '.join(vector)}"
    return f"{model}; {os.cpu_count()} cores; {platform.system()} {platform.release()}"


def markdown(rows: list[Row], ours: Library, theirs: Library, cores: list[int], rounds: int) -> str:
    """The whole of RESULTS.md."""
    lines = [
        "# Ours against TensorFlow",
        "",
        "Written by `python benchmarks/compare.py --markdown benchmarks/RESULTS.md`; the cases are in `benchmarks/cases/`.",
        f"The ratio is the median over {rounds} alternating rounds, with its quartiles: smaller is better.",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- machine: {machine()}; both libraries pinned to {len(cores)} core{'s' if len(cores) > 1 else ''}",
        f"- Python {ours.versions['python']}, NumPy {ours.versions['numpy']}",
        f"- TensorFlow {theirs.versions['tensorflow']} (`tf.compat.v1`, no v2 behaviour), NumPy {theirs.versions['numpy']}",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|--:|--:|--:|--:|",
        *("| " + " | ".join(cells(row)) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("cases", nargs=-1)
@click.option("--tf-python", help="a Python that has TensorFlow; otherwise .venv-tf is made")
@click.option(
    "--rounds", default=15, show_default=True, type=click.IntRange(2), help="pairs of batches a case"
)
@click.option("--batch", default=0.2, show_default=True, help="seconds a batch")
@click.option("--cores", default="0", show_default=True, help="the cores both are pinned to, such as 0,1")
@click.option(
    "--markdown", "target", type=click.Path(path_type=Path), help="write the table to this file, too"
)
def main(
    cases: tuple[str, ...], tf_python: str | None, rounds: int, batch: float, cores: str, target: Path | None
) -> None:
    """Compare this engine with TensorFlow on CASES (default: all)."""
    sys.path.insert(0, str(HERE))
    from cases import all_cases  # type: ignore[import-not-found,unused-ignore]

    known = all_cases()
    for name in cases:
        if name not in known:
            fail(f"there is no case '{name}'; there are: {', '.join(known)}")
    pinned = [int(core) for core in cores.split(",")]
    ours = Library("engine", sys.executable, pinned)
    theirs = Library("tensorflow", tf_python or tensorflow_python(), pinned)
    names = list(cases) or list(known)
    console = Console()
    rows = [
        compare(name, known[name].title, ours, theirs, rounds, batch)
        for name in track(names, console=Console(stderr=True), description="measuring", transient=True)
    ]
    ours.close()
    theirs.close()
    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    if target is not None:
        target.write_text(markdown(rows, ours, theirs, pinned, rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
