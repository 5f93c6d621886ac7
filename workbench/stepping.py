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
from workbench.debugger.snapshot import Status


def as_text(
    script: str,
    args: Sequence[str],
    commands: str | None,
    *,
    trace: str | None,
    logdir: str | os.PathLike[str],
) -> int:
    """Step with `commands` (None: from standard input) and print what happens; gives our exit status."""
    lines = None if commands is None else split(commands)
    for line in lines or ():
        try:
            parse(line)
        except CommandError as error:
            raise click.UsageError(str(error)) from None
    try:
        client = DebugClient.launch(
            script, args, trace=trace, logdir=logdir, capture=False, stdin=commands is not None
        )
    except LaunchError as error:
        click.echo(f"workbench: {error}", err=True)
        return 2
    with client:
        typing = lines is None and sys.stdin.isatty()
        repl = Repl(client, say, strict=not typing)
        try:
            snapshot = repl.begin()
            if snapshot.status is Status.STOPPED:
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


def in_terminal(
    script: str, args: Sequence[str], *, trace: str | None, logdir: str | os.PathLike[str]
) -> int:
    """Step in the terminal application; gives our exit status."""
    from workbench.terminal import open_application

    try:
        client = DebugClient.launch(script, args, trace=trace, logdir=logdir)
    except LaunchError as error:
        click.echo(f"workbench: {error}", err=True)
        return 2
    with client:
        return open_application(debug=client, logdir=Path(logdir))
