"""Agent: the thread in the process of a script that was started under the debugger, to which its front end talks.

The script waits where it is stopped until somebody gives a command.  One front end is served at a time; one that misbehaves is
cut off, and another may connect.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from workbench.debugger.conversation import Conversation
from workbench.debugger.doors import Door, listen_at
from workbench.debugger.protocol import VERSION, Hello


class Agent(Conversation):
    """Listens at `address`, a path in a private directory; only this user may connect.

    Raises OSError if the socket cannot be made.
    """

    def __init__(self, address: Path, *, script: str, argv: tuple[str, ...] = ()) -> None:
        super().__init__(script=script, argv=argv)
        self._address = address
        hello = Hello(VERSION, "agent", os.getpid(), script)
        self._door = Door(listen_at(address), lambda: hello, self.talk, threading.Lock())

    def close(self) -> None:
        """Stop listening; what has been sent still arrives."""
        self._door.close()
        self._address.unlink(missing_ok=True)
        self.hang_up()
