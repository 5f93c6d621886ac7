"""``workbench step``: a script under the debugger, as text or in the terminal application."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from workbench.debugger.client import DebugClient, LaunchError
from workbench.debugger.command import CommandError
from workbench.debugger.commands import parse, split
from workbench.debugger.repl import Repl, typed
from workbench.debugger.schedules.record import Schedule
from workbench.debugger.snapshot import Status


def as_text(
    script: str,
    args: Sequence[str],
    commands: str | None,
    *,
    trace: str | None,
    logdir: str | os.PathLike[str],
    schedule: str | None = None,
) -> int:
    """Step with `commands` (None: from standard input) and print what happens; gives our exit status.

    schedule: what the `Session.run` that it belongs to replays, as text or as ``@FILE``.
    """
    replayed = _read_schedule(schedule)
    lines = checked(commands)
    try:
        client = DebugClient.launch(
            script, args, trace=trace, logdir=logdir, capture=False, stdin=commands is not None
        )
    except LaunchError as error:
        click.echo(f"workbench: {error}", err=True)
        return 2
    return converse(client, lines, script, replayed)


def checked(commands: str | None) -> list[str] | None:
    """The commands one by one.  Raises UsageError for the first that is none."""
    lines = None if commands is None else split(commands)
    for line in lines or ():
        try:
            parse(line)
        except CommandError as error:
            raise click.UsageError(str(error)) from None
    return lines


def converse(client: DebugClient, lines: list[str] | None, script: str, replayed: str = "") -> int:
    """Carry out `lines` (None: from standard input) at the script's first stop, and end; gives our exit status."""
    with client:
        typing = lines is None and sys.stdin.isatty()
        repl = Repl(client, say, strict=not typing)
        try:
            snapshot = repl.begin()
            if snapshot.status is Status.STOPPED:
                if replayed and not repl.carry_out(f"schedule when {replayed}"):
                    return repl.end()
                repl.run(lines if lines is not None else typed(), echo=not typing)
            elif snapshot.status is Status.FINISHED:
                say(f"{script} never called Session.run")
            return repl.end()
        except KeyboardInterrupt:
            client.quit()
            return 130


def say(text: str) -> None:
    """Print at once: the script's own output, from another process, belongs in between."""
    click.echo(text)
    sys.stdout.flush()


def _read_schedule(schedule: str | None) -> str:
    """The schedule that is meant, "" for none.  Raises UsageError if it cannot be read."""
    if schedule is None:
        return ""
    try:
        if schedule.startswith("@"):
            schedule = Path(schedule[1:]).read_text(encoding="ascii")
        return str(Schedule.parse(schedule))
    except (OSError, ValueError, CommandError) as error:
        raise click.UsageError(f"--schedule: {error}") from None


def in_terminal(
    script: str,
    args: Sequence[str],
    *,
    trace: str | None,
    logdir: str | os.PathLike[str],
    schedule: str | None = None,
) -> int:
    """Step in the terminal application; gives our exit status."""
    from workbench.terminal import open_application

    replayed = _read_schedule(schedule)
    try:
        client = DebugClient.launch(script, args, trace=trace, logdir=logdir)
    except LaunchError as error:
        click.echo(f"workbench: {error}", err=True)
        return 2
    with client:
        if replayed and client.wait_for_stop().status is Status.STOPPED:
            client.command(f"schedule when {replayed}")
        return open_application(debug=client, logdir=Path(logdir))
