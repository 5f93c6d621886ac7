"""Stepping as text: commands from a list, a pipe or a keyboard, answers on standard output."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as NotYet

from workbench.debugger import text
from workbench.debugger.client import DebugClient
from workbench.debugger.command import CommandError
from workbench.debugger.commands import parse
from workbench.debugger.protocol import Reply
from workbench.debugger.snapshot import Snapshot, Status

PROMPT = "(step) "
_TICK = 0.2  # seconds between two looks at the keyboard's interrupt


class Repl:
    """Gives `client` commands, and writes what comes of them with `say`.

    strict: nobody is there to type a better command: one that cannot be carried out makes our exit status 2.
    """

    def __init__(self, client: DebugClient, say: Callable[[str], None], strict: bool = True) -> None:
        self.client = client
        self.say = say
        self.strict = strict
        self.failed = 0
        self._seen = 0  # executions told of
        self._step: int | None = None

    def begin(self) -> Snapshot:
        """Wait for the first stop and tell of it."""
        snapshot = self.client.wait_for_stop()
        if snapshot.status is Status.STOPPED:
            self._tell(snapshot)
        return snapshot

    def run(self, lines: Iterable[str], echo: bool = False) -> None:
        """Carry out `lines` until they or the script end, or one says quit."""
        for line in lines:
            if echo:
                self.say(f"\n{PROMPT}{line}")
            if not self.carry_out(line):
                return

    def carry_out(self, line: str) -> bool:
        """One command; False if it was the last, because the script has ended."""
        try:
            command, _ = parse(line)
        except CommandError as error:
            self._complain(str(error))
            return not self.client.ended
        if command.name == "q":
            self.client.quit()
            self.say("detached; the script runs on" if self.client.attached else "the script was ended")
            return False
        reply = self._reply(line)
        if not reply.ok and self.client.snapshot.status is Status.STOPPED:
            self._complain(reply.text)
        elif reply.text and reply.ok:
            self.say(reply.text)
        if command.name == "detach" and reply.ok:
            self.client.wait_for_end()
            return False
        snapshot = self.client.snapshot
        if snapshot.status is Status.STOPPED:
            if command.moves or command.rewinds:
                self._tell(snapshot)
            return True
        if command.moves or not reply.ok:
            self.client.wait_for_end()
            return False
        return True

    def end(self) -> int:
        """Finish: a script that is stopped at an error gets it, any other is ended.  Gives the exit status for our process."""
        client = self.client
        snapshot = client.snapshot
        if snapshot.status is Status.STOPPED:
            if snapshot.error is not None:
                client.command("c")
                client.wait_for_end()
            elif client.attached:
                self.say("\nno more commands: detached; the script runs on")
                client.detach()
                return self._verdict()
            else:
                self.say("\nno more commands: the script was ended where it stood (c lets it run on)")
                client.quit()
                return self._verdict()
        client.wait_for_end()
        final = client.snapshot
        self.say(text.status(final))
        code = client.poll() or 0
        return code if code > 0 else 128 - code if code < 0 else self._verdict()

    def _verdict(self) -> int:
        return 2 if self.failed and self.strict else 0

    def _reply(self, line: str) -> Reply:
        """The reply to `line`.

        Ctrl-C while it is on its way pauses the step, if there is somebody to look at it; a second one is raised.
        """
        future = self.client.send(line)
        paused = False
        while True:
            try:
                return future.result(_TICK)
            except NotYet:
                continue
            except KeyboardInterrupt:
                status = self.client.snapshot.status
                begins = status is Status.STOPPED and parse(line)[0].moves  # which is told a moment later
                if paused or self.strict or not (begins or status is Status.RUNNING):
                    raise
                paused = True
                self.client.send("pause")

    def _tell(self, snapshot: Snapshot) -> None:
        step = snapshot.step.id if snapshot.step is not None else None
        if step != self._step:
            self._step, self._seen = step, 0
        self.say(text.stop(snapshot, self._seen))
        self._seen = snapshot.executed

    def _complain(self, problem: str) -> None:
        self.failed += 1
        self.say(f"! {problem}")


def typed() -> Iterator[str]:
    """Lines from standard input, with a prompt if a person types them; an empty one repeats the last."""
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives `input` history and editing
    last = "n"
    while True:
        try:
            line = input(PROMPT) if interactive else sys.stdin.readline()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            yield "q"
            return
        if not interactive and not line:
            return
        line = line.strip()
        if not line and not interactive:
            continue
        for part in (line or last).split(";"):
            if part.strip():
                yield part.strip()
        last = line or last
