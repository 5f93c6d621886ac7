"""When a signature is worth a plan, and why one has none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.runtime.config import ConfigProto
    from engine.runtime.executable import Executable
    from engine.runtime.plan.ir import NotExpressible
    from engine.runtime.plan.plan import Plan

MODES = ("auto", "always", "off")


class Choice:
    """What is known of one executable: how often it ran, its plan or the reason why it has none."""

    __slots__ = ("_lock", "executable", "plan", "reason", "runs")

    def __init__(self, executable: Executable) -> None:
        self.executable = executable
        self.plan: Plan | None = None
        self.reason: NotExpressible | None = None
        self.runs = 0
        self._lock = threading.Lock()

    def for_run(self, config: ConfigProto) -> Plan | None:
        """The plan for another run under this configuration, or None: the interpreter runs it."""
        mode = config.plans
        if self.plan is not None and mode != "off":
            return self.plan
        if mode == "off" or self.reason is not None:
            return None
        self.runs += 1
        if mode == "auto" and self.runs == 1 and len(self.executable.program.frames) == 1:
            return None  # most signatures that run once never run again
        return self.compile(config)

    def why_not(self, mode: str) -> str:
        """Why the plan that `for_run` gives, if any, did not run, in some words."""
        if mode == "off":
            return "ConfigProto.plans is 'off'"
        if self.plan is not None:
            return "a plan sends nothing from device to device, which is what is watched"
        if self.reason is None:
            return "the first run"
        about = f" ('{self.reason.item.name}')" if self.reason.item is not None else ""
        return f"{self.reason.reason}{about}"

    def compile(self, config: ConfigProto | None = None) -> Plan | None:
        """The plan, made now if need be; None where there is none (`reason` says why)."""
        from engine.runtime.plan.ir import NotExpressible
        from engine.runtime.plan.plan import Plan

        with self._lock:
            if self.plan is None and self.reason is None:
                try:
                    options: dict[str, Any] = {}
                    if config is not None:
                        threads = config.intra_op_parallelism_threads
                        options = {
                            "native": config.native,
                            "exact": config.exact,
                            "threads": threads,
                            "background": config.plans == "auto",
                        }
                    self.plan = Plan(self.executable, **options)
                except NotExpressible as reason:
                    # Without its traceback, which holds the frames of whoever ran the step.
                    self.reason = reason.with_traceback(None)
        return self.plan
