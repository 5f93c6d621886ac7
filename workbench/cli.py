"""The command line: ``workbench demo | run | step | attach | open | show | stages | plan | place | runs | tensorboard``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from tracing.errors import RunError

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# Everything after the script is the script's, options too.
SCRIPT_CONTEXT = {**CONTEXT, "ignore_unknown_options": True, "allow_interspersed_args": False}


class Problem(click.ClickException):
    """Something the person can put right: one message, exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"workbench: {self.format_message()}", err=True)


def _logdir(function: F) -> F:
    option = click.option(
        "--logdir",
        default="./runs",
        show_default=True,
        metavar="DIR",
        envvar="WORKBENCH_LOGDIR",
        help="Where run directories are.",
    )
    return option(function)


def _trace(default: str | None, text: str) -> Callable[[F], F]:
    return click.option(
        "--trace",
        type=click.Choice(["times", "values", "full"]),
        default=default,
        show_default=True,
        help=text,
    )


def _script(function: F) -> F:
    function = click.argument("args", nargs=-1, type=click.UNPROCESSED)(function)
    return click.argument("script", metavar="SCRIPT")(function)


def _command_file(function: F) -> F:
    return click.option(
        "--script", "file", metavar="FILE", help="Commands from FILE, one a line; # begins a comment."
    )(function)


def _version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib import metadata

    try:
        number = metadata.version("dataflow-workbench")
    except metadata.PackageNotFoundError:
        number = "from its source, not installed"
    click.echo(f"workbench {number}")
    context.exit()


@click.group(context_settings=CONTEXT)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Run, record, step and look at dataflow graphs."""


@cli.command(short_help="Train a small network on handwritten digits and look at it.")
@click.option("--headless", is_flag=True, help="No terminal application: progress, then a report.")
@_logdir
@click.option("--steps", type=click.IntRange(1, 1_000_000), metavar="N", help="Training steps.")
@click.option(
    "--devices",
    metavar="LIST",
    help="Such as CPU:2 (the default) or GPU:1, which is a modelled one; CPU:1 for one only.",
)
def demo(headless: bool, logdir: str, steps: int | None, devices: str | None) -> None:
    """Train a small network on handwritten digits, on two devices, under recording, and look at it while it learns.

    In a terminal the run opens in the terminal application; with --headless, or without a terminal, a report is printed.
    """
    from workbench.demo import show
    from workbench.demo.digits import parse_devices

    try:
        parse_devices(devices or "CPU")
    except ValueError as error:
        raise Problem(f"--devices: {error}") from None
    headless = headless or not _has_terminal()
    _end(show.demo(steps, logdir=_checked_logdir(logdir), headless=headless, devices=devices))


@cli.command(context_settings=SCRIPT_CONTEXT, short_help="Run a script under recording.")
@_logdir
@_trace("times", "How much to record.")
@_script
def run(logdir: str, trace: str, script: str, args: tuple[str, ...]) -> None:
    """Run SCRIPT as "python SCRIPT ARGS" would, and record every Session.run of it into a run directory.

    Options come before SCRIPT; everything after it goes to it. The exit status is the script's.
    """
    from workbench.process import describe_exit
    from workbench.recorded import RecordedProcess, run_attached
    from workbench.runs import shortest_name

    _check_script(script)
    process = RecordedProcess(
        script, args, logdir=_checked_logdir(logdir), trace=trace, capture=False, attached=True
    )
    code = run_attached(process)
    run_path = process.run_path
    if code < 0 and -code != signal.SIGINT:
        click.echo(f"workbench: {script} {describe_exit(code)}", err=True)
    if run_path is not None:
        click.echo(
            f"workbench: recorded; look at it with: workbench open {shortest_name(run_path)}",
            err=True,
        )
    _end(code)


@cli.command(context_settings=SCRIPT_CONTEXT, short_help="Step through a script's Session.run, node by node.")
@click.option(
    "--commands", metavar="TEXT", help="Commands, apart by semicolons, instead of a terminal: 'n; n; c'."
)
@_command_file
@click.option("--text", is_flag=True, help="A prompt instead of the terminal application.")
@click.option(
    "--schedule",
    metavar="STRING",
    help="Replay this schedule (as the command 'schedule' shows it, or @FILE) in the Session.run that it belongs to.",
)
@_logdir
@_trace(None, "Record it too, this much.")
@_script
def step(
    commands: str | None,
    file: str | None,
    text: bool,
    schedule: str | None,
    logdir: str,
    trace: str | None,
    script: str,
    args: tuple[str, ...],
) -> None:
    """Run SCRIPT, stop at its first Session.run, and step through it node by node.

    In a terminal this opens the terminal application; with --commands, --script or without a terminal, it is text: commands then
    come from there or from standard input ("h" lists them). --commands may also come after SCRIPT; what follows "--" there is the
    script's alone.
    """
    from workbench import stepping

    _check_script(script)
    args, commands = _commands_after(args, commands)
    commands = _commands_in(file, commands)
    if commands is None and not text and _has_terminal():
        _end(stepping.in_terminal(script, args, trace=trace, logdir=logdir, schedule=schedule))
        return
    _end(stepping.as_text(script, args, commands, trace=trace, logdir=logdir, schedule=schedule))


@cli.command(short_help="Step through a script that runs already, and listens.")
@click.argument("target", metavar="[PID|PATH|tcp:PORT]", required=False)
@click.option("--commands", metavar="TEXT", help="Commands, apart by semicolons, instead of a terminal.")
@_command_file
@click.option("--text", is_flag=True, help="A prompt instead of the terminal application.")
@_logdir
def attach(target: str | None, commands: str | None, file: str | None, text: bool, logdir: str) -> None:
    """Attach to a script that was started with WORKBENCH_DEBUG=1, or that called engine.debug.listen().

    It stops at its next Session.run, and is stepped as with "workbench step"; "detach" lets it run on as if nobody had looked,
    and so does leaving in any other way. Without an argument: list the scripts that listen. For tcp:PORT the token is taken from
    WORKBENCH_DEBUG_TOKEN, or asked for.
    """
    from workbench import attaching

    commands = _commands_in(file, commands)
    if target is None:
        if commands is not None:
            raise click.UsageError("attach to which script? workbench attach lists them")
        _end(attaching.show_listening())
        return
    token = ""
    if target.startswith("tcp:"):
        token = os.environ.get("WORKBENCH_DEBUG_TOKEN", "") or click.prompt(
            "token", hide_input=True, err=True
        )
    if commands is None and not text and _has_terminal():
        _end(attaching.in_terminal(target, token, logdir=logdir))
        return
    _end(attaching.as_text(target, token, commands))


@cli.command("open", short_help="Look at a run.")
@click.argument("run", metavar="RUN")
@_logdir
def open_run(run: str, logdir: str) -> None:
    """Open RUN (a path, a run's name or its beginning, or "latest") in the terminal application.

    Without a terminal its report is printed.
    """
    path = _locate(run, logdir)
    if not _has_terminal():
        _print_report(path, as_json=False)
        return
    from workbench.terminal import open_application

    _end(open_application(run=path, logdir=Path(logdir)))


@cli.command(short_help="Print the report of a run, or what control flow did in a step.")
@click.argument("run", metavar="RUN")
@_logdir
@click.option(
    "--step", metavar="N", help="About step N of the run (its number in the report), or the 'last'."
)
@click.option("--frames", is_flag=True, help="A step's frames and iterations, and what was held back.")
@click.option("--stacks", is_flag=True, help="A step's stacks and arrays of tensors, and what they held.")
@click.option(
    "--after", type=click.IntRange(0), metavar="ROW", help="Stacks as they were after execution ROW."
)
@click.option("--why", metavar="NODE", help="Why NODE (or NODE@FRAME:ITERATION) was dead in a step.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(
    run: str,
    logdir: str,
    step: str | None,
    frames: bool,
    stacks: bool,
    after: int | None,
    why: str | None,
    as_json: bool,
) -> None:
    """Print the report of RUN (a path, a run's name or its beginning, or "latest"), also of one that goes on or was killed.

    With --step, or one of --frames, --stacks and --why (of the last step, if none is given), say what control flow did in it.
    """
    path = _locate(run, logdir)
    if step is None and not (frames or stacks or why or after is not None):
        _print_report(path, as_json)
        return
    from workbench.flow import show_step

    try:
        said = show_step(
            path,
            step,
            frames=frames,
            stacks=stacks or after is not None,
            after=after,
            why=why,
            as_json=as_json,
        )
    except RunError as error:
        raise Problem(str(error)) from None
    click.echo(said)


@cli.command(short_help="List the runs.")
@_logdir
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def runs(logdir: str, as_json: bool) -> None:
    """List the runs in the log directory, the newest first."""
    from workbench.runs import rows as find_rows

    try:
        rows = find_rows(logdir)
    except RunError as error:
        raise Problem(str(error)) from None
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    if not rows:
        click.echo(f"there are no runs in {logdir}; workbench demo makes one")
        return
    from viz.format import ago, count, duration, plural

    now = time.time()
    width = max(len(row.name) for row in rows)
    click.echo(f"{'run':<{width}}  {'state':<12}{'steps':>8}  {'took':>11}  when")
    for row in rows:
        if row.state == "damaged":
            click.echo(f"{row.name:<{width}}  {row.state:<12}  {row.error}")
            continue
        when = ago(max(0.0, now - row.created_unix_ns / 1e9))
        took = duration(row.duration_ns)
        by_hand = f"  ({plural(row.changed_steps, 'step')} changed by hand)" if row.changed_steps else ""
        click.echo(f"{row.name:<{width}}  {row.state:<12}{count(row.steps):>8}  {took:>11}  {when}{by_hand}")


@cli.command(short_help="Open a run in TensorBoard.")
@click.argument("run", metavar="RUN")
@_logdir
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=6006, show_default=True, help="0: any free one."
)
@click.option("--host", default="localhost", show_default=True, help="Which address to serve on.")
def tensorboard(run: str, logdir: str, port: int, host: str) -> None:
    """Serve RUN (a path, a run's name or its beginning, or "latest") with TensorBoard until Ctrl-C."""
    import importlib.util

    path = _locate(run, logdir)
    if importlib.util.find_spec("tensorboard") is None:
        raise Problem("TensorBoard is not installed: pip install tensorboard")
    from workbench.process import ChildProcess
    from workbench.recorded import run_attached

    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(path),
        "--port",
        str(port),
        "--host",
        host,
    ]
    code = run_attached(ChildProcess(command, capture=False, own_group=False, stdin=True))
    _end(0 if code in (-signal.SIGINT, 130) else code)


def _fetched(function: F) -> F:
    function = click.option(
        "--feed", "feeds", multiple=True, metavar="NAME", help="A tensor that is fed; any number of them."
    )(function)
    return click.option(
        "--fetch",
        "fetches",
        multiple=True,
        metavar="NAME",
        help="A tensor or operation to run; any number of them.",
    )(function)


_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@cli.command(short_help="Show what became of a graph, stage by stage.")
@click.argument("target", metavar="SCRIPT|RUN")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@_fetched
@click.option("--diff", "between", nargs=2, metavar="A B", help="What is different between two stages.")
@click.option("--node", metavar="NAME", help="One node's way through the stages.")
@_logdir
@_JSON
def stages(
    target: str,
    args: tuple[str, ...],
    fetches: tuple[str, ...],
    feeds: tuple[str, ...],
    between: tuple[str, str] | None,
    node: str | None,
    logdir: str,
    as_json: bool,
) -> None:
    """Print the stages that a graph goes through before it runs: built, pruned, each pass, placed, partitioned.

    Of SCRIPT (what follows "--" is its own), by default those of its first Session.run that fetches a value; it is ended there,
    and nothing of that run is executed.  Of RUN (a path, a name or its beginning, "latest"), those that most of its steps ran.
    """
    from workbench import stages as command
    from workbench.asking import Question

    if between and node:
        raise click.UsageError("--diff and --node are two different questions")
    with _answering(target):
        question = Question(fetches, feeds)
        command.stages(target, args, question, logdir=logdir, between=between, node=node, as_json=as_json)


@cli.command(short_help="Show what runs a graph: the plan's program, or why there is none.")
@click.argument("target", metavar="SCRIPT|RUN")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@_fetched
@click.option("--code", is_flag=True, help="The Python that the plan is.")
@_logdir
@_JSON
def plan(
    target: str,
    args: tuple[str, ...],
    fetches: tuple[str, ...],
    feeds: tuple[str, ...],
    code: bool,
    logdir: str,
    as_json: bool,
) -> None:
    """Print the program that a graph is compiled to, with the lives of its values beside it, or why the interpreter runs instead.

    Which graph is chosen as "workbench stages" does it; nothing of it is executed. Of RUN, lines have their times in the last
    step.
    """
    from workbench import plan as command
    from workbench.asking import Question

    with _answering(target):
        question = Question(fetches, feeds, planned=True)
        command.plan(target, args, question, logdir=logdir, code=code, as_json=as_json)


@cli.command(short_help="Predict a step in several placements.")
@click.argument("target", metavar="SCRIPT|RUN")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--simulate", is_flag=True, help="Predict, and run nothing: the only way there is.")
@click.option(
    "--devices",
    metavar="LIST",
    help="Such as CPU:2,GPU:1; GPUs are modelled. By default the session's own, or two CPUs.",
)
@click.option(
    "--placement", default="simple,greedy", show_default=True, metavar="LIST", help="Which placements."
)
@click.option(
    "--costs", metavar="RUN", help="Take times from this recorded run, and show one of its steps beside."
)
@click.option(
    "--soft", is_flag=True, help="Where the program asks for a device that is not there, take another."
)
@click.option("--all", "every", is_flag=True, help="Say of every node why it is where it is.")
@_fetched
@_logdir
@_JSON
def place(
    target: str,
    args: tuple[str, ...],
    simulate: bool,
    devices: str | None,
    placement: str,
    costs: str | None,
    soft: bool,
    every: bool,
    fetches: tuple[str, ...],
    feeds: tuple[str, ...],
    logdir: str,
    as_json: bool,
) -> None:
    """Place the graph of SCRIPT, or of RUN, on devices in several ways, and predict a step of each: what runs where and when.

    Which graph is chosen as "workbench stages" does it. Costs are static estimates, or measured ones with --costs RUN.
    """
    if not simulate:
        raise click.UsageError("workbench place predicts and runs nothing: add --simulate")
    with _answering(target):
        from workbench import placing
        from workbench.asking import Question

        question = Question(fetches, feeds, unplaced=True)
        placing.place_and_simulate(
            target,
            args,
            question,
            logdir=logdir,
            devices=devices,
            placement=placement,
            costs=costs,
            soft=soft,
            every=every,
            as_json=as_json,
        )


@contextmanager
def _answering(target: str) -> Iterator[None]:
    """Inside the `with` block, what is wrong with a question about stages becomes a `Problem`."""
    from viz.stage_model import UnknownName
    from workbench.asked import NoAnswer, is_script

    if is_script(target):
        _check_script(target)
    try:
        yield
    except NoAnswer as error:
        if error.output:
            click.echo(error.output.rstrip(), err=True)
        raise Problem(str(error)) from None
    except (UnknownName, RunError) as error:
        raise Problem(str(error)) from None


# What the commands share.


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"


def _locate(run: str, logdir: str) -> Path:
    from workbench.runs import locate

    try:
        return locate(run, logdir)
    except RunError as error:
        raise Problem(str(error)) from None


def _commands_after(args: tuple[str, ...], commands: str | None) -> tuple[tuple[str, ...], str | None]:
    """`--commands TEXT` taken out of what comes after the script, if it was not given before it."""
    ours = list(args[: args.index("--")] if "--" in args else args)
    for i, word in enumerate(ours):
        if commands is None and word == "--commands" and i + 1 < len(ours):
            return args[:i] + args[i + 2 :], ours[i + 1]
        if commands is None and word.startswith("--commands="):
            return args[:i] + args[i + 1 :], word.partition("=")[2]
    return args, commands


def _commands_in(file: str | None, commands: str | None) -> str | None:
    """`commands`, or those in `file`."""
    if file is None:
        return commands
    if commands is not None:
        raise click.UsageError("--commands and --script are two ways to say the same")
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"the commands in {file} cannot be read: {error}") from None


def _print_report(path: Path, as_json: bool) -> None:
    from tracing.reader import Run
    from tracing.report import report, report_json, report_text

    try:
        with Run.open(path) as opened:
            made = report(opened)
    except RunError as error:
        raise Problem(str(error)) from None
    click.echo(report_json(made) if as_json else report_text(made).rstrip())


def _check_script(script: str) -> None:
    if os.path.isdir(script):
        if not os.path.isfile(os.path.join(script, "__main__.py")):
            raise Problem(f"{script} is a directory without a __main__.py")
    elif not os.path.exists(script):
        raise Problem(f"there is no script {script}")
    elif not os.access(script, os.R_OK):
        raise Problem(f"the script {script} cannot be read")


def _checked_logdir(logdir: str) -> str:
    """`logdir`, made if need be: a run that cannot be recorded should not begin."""
    try:
        Path(logdir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"the log directory {logdir} cannot be made: {error.strerror or error}") from None
    if not os.access(logdir, os.W_OK | os.X_OK):
        raise Problem(f"the log directory {logdir} cannot be written to")
    return logdir


def _end(code: int) -> None:
    """End with the status of a process: the signal that killed it shows as shells show it."""
    raise SystemExit(code if code >= 0 else 128 - code)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; does not return."""
    from workbench.recorded import orderly_termination

    with orderly_termination():
        cli.main(args=arguments, prog_name="workbench")


if __name__ == "__main__":
    main()
