"""``workbench attach``: a script that runs already and listens, under the debugger, as text or in the terminal application."""

from __future__ import annotations

import os
from pathlib import Path

import click

from workbench.debugger.client import DebugClient, LaunchError
from workbench.debugger.listening import ListenError, listening
from workbench.debugger.text import table
from workbench.stepping import checked, converse, say


def as_text(where: str, token: str, commands: str | None) -> int:
    """Attach with `commands` (None: from standard input) and print what happens; at the end the script runs on.

    Gives our exit status.
    """
    lines = checked(commands)
    try:
        client = DebugClient.attach(where, token=token)
    except LaunchError as error:
        return _refused(error)
    script = client.snapshot.script
    say(f"attached to {script}, process {client.agent_pid}; it stops at its next Session.run")
    return converse(client, lines, script)


def in_terminal(where: str, token: str, *, logdir: str | os.PathLike[str]) -> int:
    """Attach in the terminal application; at its end the script runs on.  Gives our exit status."""
    from workbench.terminal import open_application

    try:
        client = DebugClient.attach(where, token=token)
    except LaunchError as error:
        return _refused(error)
    with client:
        return open_application(debug=client, logdir=Path(logdir))


def show_listening() -> int:
    """Print the scripts that one could attach to; our exit status is 1 if there is none."""
    try:
        found = listening()
    except ListenError as error:
        return _refused(error)
    if not found:
        say("no script listens; start one with WORKBENCH_DEBUG=1, or let it call engine.debug.listen()")
        return 1
    rows = [
        (str(each.pid), each.script, each.problem or ("a debugger is attached" if each.attached else ""))
        for each in found
    ]
    say("\n".join(table(rows)))
    return 0


def _refused(error: Exception) -> int:
    click.echo(f"workbench: {error}", err=True)
    return 2
