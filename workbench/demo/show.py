"""``workbench demo``: the digits under recording, watched in the terminal application or told of in a report."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from tracing.errors import RunError
from tracing.reader import Run
from tracing.report import Report, report
from viz.devices_model import transfer_ways
from viz.format import device as device_name
from viz.format import duration, nbytes, percent, plural, shorten
from workbench.debugger.source import short_path
from workbench.process import describe_exit
from workbench.recorded import RecordedProcess
from workbench.runs import shortest_name

SCRIPT = Path(__file__).with_name("digits.py")
STEPS = 600
TRACE = "values"
_LOOK_SECONDS = 0.1
_SLOWEST = 6


def demo(
    steps: int | None, *, logdir: str | os.PathLike[str], headless: bool, devices: str | None = None
) -> int:
    """Train for `steps` under recording into a new run directory in `logdir`; gives our exit status.

    devices: such as "CPU:2" or "GPU:1"; by default the script's own.  GPUs are modelled.
    """
    args = ["--steps", str(steps or STEPS), *(["--devices", devices] if devices else [])]
    if not headless:
        from workbench.terminal import open_application

        with RecordedProcess(str(SCRIPT), args, logdir=logdir, trace=TRACE) as process:
            path = _await_run(process)
            if path is None:
                return _tell_failure(process)
            code = open_application(run=path, logdir=Path(logdir), child=process)
            click.echo(
                f"the run is in {short_path(str(path))}; workbench open {shortest_name(path)} shows it again"
            )
            return code
    return _headless(args, steps or STEPS, logdir)


def _headless(args: Sequence[str], steps: int, logdir: str | os.PathLike[str]) -> int:
    capture = sys.stdout.isatty()  # a progress bar then, and the script's own lines otherwise
    with RecordedProcess(str(SCRIPT), args, logdir=logdir, trace=TRACE, capture=capture) as process:
        try:
            if capture:
                _watch(process, steps)
            code = process.wait()
        except KeyboardInterrupt:
            click.echo("workbench: the demonstration was interrupted", err=True)
            return 130
        if code:
            return _tell_failure(process)
        path = process.run_path
    if path is None:
        click.echo("workbench: the demonstration left no run behind", err=True)
        return 1
    try:
        with Run.open(path) as run:
            click.echo(summary(report(run, _SLOWEST), path, crossings(run)))
    except RunError as error:
        click.echo(f"workbench: {error}", err=True)
        return 1
    return 0


def _await_run(process: RecordedProcess) -> Path | None:
    """The run directory, as soon as the script has made it; None if the script ends without."""
    while process.run_path is None and process.poll() is None:
        time.sleep(0.02)
    return process.run_path


def _tell_failure(process: RecordedProcess) -> int:
    tail = process.output_tail().strip()
    if tail:
        click.echo(tail, err=True)
    code = process.wait()
    click.echo(f"workbench: the demonstration {describe_exit(code)}", err=True)
    return code if code > 0 else 1


def _watch(process: RecordedProcess, steps: int) -> None:
    """A progress bar with the last loss and accuracy, for as long as the process runs."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(), transient=True) as progress:
        task = progress.add_task("training", total=steps, said="")
        path = _await_run(process)
        if path is None:
            return
        with Run.open(path) as run:
            while process.poll() is None:
                if run.refresh():
                    step, said = _last(run)
                    progress.update(task, completed=step, said=said)
                time.sleep(_LOOK_SECONDS)


def _last(run: Run) -> tuple[int, str]:
    """The last step that was logged, and what with."""
    scalars = run.scalars()
    said = []
    step = 0
    if "loss" in scalars:
        numbers, values = scalars["loss"]
        step = int(numbers[-1])
        said.append(f"loss {values[-1]:.3f}")
    if "accuracy" in scalars:
        said.append(f"accuracy {percent(float(scalars['accuracy'][1][-1]))}")
    return step, "  ".join(said)


def crossings(run: Run) -> list[str]:
    """A training step on its devices, in lines: the nodes of each, and what goes from one to another."""
    steps = run.steps()
    ran = Counter(step.stage_id for step in steps)
    step = max(steps, key=lambda step: (ran[step.stage_id], step.id), default=None)
    if step is None:
        return []
    stage = run.stage(step.stage_id)
    lines = [
        f"  {device_name(name):<8} {plural(len(stage.on(name)), 'node')}" for name in stage.devices if name
    ]
    for way in transfer_ways(run.transfers(step.id)):
        lines.append(f"  {way.label:<14} {plural(way.tensors, 'tensor')}, {nbytes(way.nbytes)}")
    modelled = " (GPUs are modelled)" if any("GPU" in name for name in stage.devices) else ""
    return [f"one training step, on {plural(len(stage.devices), 'device')}{modelled}", *lines]


def summary(made: Report, path: Path, devices: Sequence[str] = ()) -> str:
    """The demonstration's report: how well it learned, what went between devices, where the time went, what to type next."""
    scalars = {row.tag: row for row in made.scalars}
    lines = ["", f"{made.steps:,} runs of the session in {duration(made.duration_ns)}"]
    if "loss" in scalars:
        lines.append(f"  loss      {scalars['loss'].last:.4f} at step {scalars['loss'].step}")
    if "accuracy" in scalars:
        lines.append(f"  accuracy  {scalars['accuracy'].last:.1%} of the held-out digits")
    if made.recorder_error:
        lines.append(f"  recording stopped early: {made.recorder_error}")
    if devices:
        lines += ["", *devices]
    if made.slowest:
        lines += ["", "slowest operations"]
        for node in made.slowest:
            share = percent(node.total_ns / made.kernels_ns) if made.kernels_ns else ""
            name = shorten(f"{node.name} ({node.type})", 52)
            file, _, line = node.source.rpartition(":")
            place = f"{Path(file).name}:{line}" if file else ""
            lines.append(f"  {duration(node.total_ns):>8}  {share:>6}  {name:<52}  {place}")
    name = shortest_name(path)
    rows = (
        (f"workbench open {name}", "its graph, what ran when, the values"),
        (f"workbench stages {name}", "what became of its graph, pass by pass, and where it was placed"),
        (f"workbench step {short_path(str(SCRIPT))}", "go through the script node by node"),
        (f"workbench tensorboard {name}", "the same run in TensorBoard"),
    )
    width = max(len(command) for command, _ in rows)
    lines += ["", f"the run is in {short_path(str(path))}; next:"]
    lines += [f"  {command:<{width}}  {what}" for command, what in rows]
    return "\n".join(lines)
