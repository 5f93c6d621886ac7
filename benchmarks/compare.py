"""Ours against TensorFlow, side by side: ``python benchmarks/compare.py --tf-python PATH/bin/python [CASE …]``.

Each library lives in a process of its own; batches of calls alternate between them, so that whatever else the machine does hits
all.  The results are compared first.  Printed is ours ÷ TensorFlow, the median over the rounds, with the quartiles: smaller is
better.  ``benchmarks/README.md`` tells what is measured, and how.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import Case, all_cases
from harness import machine, memory, report
from harness.library import Library, LibraryError, python_of
from harness.measure import FEWEST_ROUNDS, Row, Runners, measure

LIBRARIES = {"ours": "engine", "theirs": "tensorflow", "torch": "torch", "jax": "jax"}
SECONDS, QUICK_SECONDS = 6.0, 1.2


@dataclass(frozen=True)
class Plan:
    """What one run of the script does."""

    cases: Sequence[Case]
    pythons: dict[str, str]
    threads: Sequence[int]
    seconds: float
    foreign: int
    fewest: int

    @property
    def rivals(self) -> list[str]:
        return [who for who in self.pythons if who in report.RIVALS]


def fail(message: str) -> NoReturn:
    raise click.ClickException(message)


def runners_of(case: Case, libraries: dict[str, Library]) -> Runners:
    """Who runs what for this case's row."""
    if case.against is not None:
        return {"ours": (libraries["ours"], case.name), "theirs": (libraries["ours"], case.against)}
    return {who: (library, case.name) for who, library in libraries.items() if case.runs_on(library.name)}


def cores_for(threads: int) -> list[int]:
    """The cores for so many threads."""
    cores = machine.available_cores()
    if threads > len(cores):
        fail(f"--threads {threads}: this process may use {len(cores)} cores")
    return cores[:threads]


def measure_all(plan: Plan, threads: int, versions: dict[str, dict[str, str]]) -> list[Row]:
    """The rows of one table; `versions` is filled in with what each library says of itself."""
    cores = cores_for(threads)
    libraries: dict[str, Library] = {}
    rows = []
    try:
        for who, python in plan.pythons.items():
            libraries[who] = Library(LIBRARIES[who], python, cores)
            versions[who] = libraries[who].versions
        title = report.key(threads, plan.foreign)
        progress = Console(stderr=True)
        with machine.Foreign(plan.foreign, cores):
            for case in track(plan.cases, console=progress, description=title, transient=True):
                row = measure(case, runners_of(case, libraries), plan.seconds, plan.fewest)
                if plan.foreign:
                    row.target = report.FOREIGN_TARGET
                rows.append(row)
    except LibraryError as error:
        fail(str(error))
    finally:
        for library in libraries.values():
            library.close()
    return rows


def measure_memory(plan: Plan, repeats: int) -> list[memory.Use]:
    """The rows of the table of memory."""
    pythons = {who: (LIBRARIES[who], python) for who, python in plan.pythons.items()}
    chosen = [case for case in plan.cases if case.name in memory.CASES]
    progress = Console(stderr=True)
    return [
        memory.measure(case, pythons, cores_for(plan.threads[0]), repeats)
        for case in track(chosen, console=progress, description="memory", transient=True)
    ]


def show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], troubles: Sequence[str]) -> None:
    """Print a table, and what could not be measured."""
    table = Table(title=title)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=180)
    console.print(table)
    for trouble in troubles:
        console.print(f"  {trouble}", markup=False)


def facts_of(versions: dict[str, dict[str, str]]) -> list[str]:
    """The machine and the versions, a line each."""
    ours, theirs = versions["ours"], versions["theirs"]
    facts = [
        f"machine: {machine.describe()}; every library pinned to as many cores as it has threads",
        f"Python {ours['python']}, NumPy {ours['numpy']}",
        f"TensorFlow {theirs['tensorflow']} (`tf.compat.v1`, no v2 behaviour), NumPy {theirs['numpy']}",
    ]
    kinds = {"torch": "eager, CPU", "jax": "`jit`, CPU"}
    return facts + [
        f"{title} {versions[who][who]} ({kinds[who]})"
        for who, title in report.RIVALS.items()
        if who in versions
    ]


def _threads(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    counts = [int(part) if part.strip().isdigit() else 0 for part in value.split(",")]
    if min(counts) < 1:
        raise click.BadParameter("write it as 1 or 1,2")
    return counts


@click.command()
@click.argument("names", metavar="[CASE]...", nargs=-1)
@click.option("--tf-python", help="a Python that has TensorFlow; otherwise .venv-tf is made")
@click.option("--torch-python", help="a Python that has PyTorch: a column for it; 'make' makes .venv-torch")
@click.option("--jax-python", help="a Python that has JAX: a column for it; 'make' makes .venv-jax")
@click.option("--threads", default="1", show_default=True, callback=_threads, help="a table each: 1,2")
@click.option("--seconds", type=click.FloatRange(0.05), help=f"for one case, {SECONDS:g} if not told")
@click.option("--quick", is_flag=True, help=f"{QUICK_SECONDS:g} seconds for one case")
@click.option(
    "--foreign", default=0, type=click.IntRange(0), help="so many other processes keep the cores busy"
)
@click.option("--memory", "of_memory", is_flag=True, help="measure the memory of training instead of times")
@click.option("--markdown", type=click.Path(path_type=Path), help="write the tables into this file, too")
@click.option("--list", "listing", is_flag=True, help="print the names of the cases")
def main(
    names: tuple[str, ...],
    tf_python: str | None,
    torch_python: str | None,
    jax_python: str | None,
    threads: list[int],
    seconds: float | None,
    quick: bool,
    foreign: int,
    of_memory: bool,
    markdown: Path | None,
    listing: bool,
) -> None:
    """Compare this engine with TensorFlow on each CASE (default: all).

    The exit status is 1 if a case fails in a library or the results differ, whatever the times are.
    """
    known = all_cases()
    if listing:
        for case in known.values():
            click.echo(f"{case.name:18} {case.title}")
        return
    for name in names:
        if name not in known:
            fail(f"there is no case '{name}'; there are: {', '.join(known)}")
    if names and markdown is not None:
        fail("--markdown writes whole tables: name no cases")
    pythons = {"ours": sys.executable, "theirs": python_of("tensorflow", tf_python)}
    for who, given in (("torch", torch_python), ("jax", jax_python)):
        if given is not None:
            pythons[who] = python_of(who, given)
    plan = Plan(
        [known[name] for name in names or known],
        pythons,
        threads,
        seconds or (QUICK_SECONDS if quick else SECONDS),
        foreign,
        2 if quick else FEWEST_ROUNDS,
    )
    rivals, versions, sections = plan.rivals, {}, {}
    troubles: list[str] = []
    if of_memory:
        uses = measure_memory(plan, 1 if quick else 3)
        troubles = report.problems(uses)
        rows = [report.memory_cells(use, rivals) for use in uses]
        show("memory of training", report.memory_headings(rivals), rows, troubles)
        sections["memory"] = report.memory_section(uses, rivals)
        for who, python in pythons.items():
            library = Library(LIBRARIES[who], python, cores_for(1))
            versions[who] = library.versions
            library.close()
    else:
        for count in threads:
            title, load = report.key(count, foreign), machine.load()
            measured = measure_all(plan, count, versions)
            found = report.problems(measured)
            troubles += found
            show(title, report.headings(rivals), [report.cells(row, rivals) for row in measured], found)
            sections[title] = report.timing_section(title, measured, rivals, load=load, seconds=plan.seconds)
    if markdown is not None:
        report.write(markdown, facts_of(versions), sections)
    sys.exit(1 if troubles else 0)


if __name__ == "__main__":
    main()
