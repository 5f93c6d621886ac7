"""StepRun: one step under way.  It executes activations and moves the state machine on; a driver decides which and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from engine.observe import Override, StepInfo
from engine.op.queues import Blocked
from engine.passes.stage import StageNode
from engine.runtime import diagnosis
from engine.runtime.collector import Collector
from engine.runtime.context import StepContext
from engine.runtime.executable import Executable
from engine.runtime.failures import about_shapes, explain, in_fused
from engine.runtime.frames import ABSENT, DEAD, Activation, Finished, Instructions
from engine.runtime.program import MERGE, RECV, SEND, Item
from engine.runtime.queues import Waits, wait
from engine.runtime.resources import ResourceManager, Write
from engine.runtime.state import ExecutorState
from engine.runtime.transfers import Transfers
from engine.types import errors

_now = time.perf_counter_ns
_new_tuple: Any = tuple.__new__  # past a named tuple's own, slower, constructor

# Called with each node and its outputs, if set: the tests check every kernel (`engine.runtime.failures.check_outputs`).
checker: Callable[[StageNode, Sequence[Any]], None] | None = None


class Outcome(NamedTuple):
    """What executing an activation gave: its output tokens (None: it was dead), when, and what it wrote."""

    outputs: Sequence[Any] | None
    start_ns: int
    end_ns: int
    writes: Sequence[Write] = ()


class StepRun:
    """One step under way.

    `execute` runs an activation's kernel and `finish` moves the state machine; both `begin` and `finish` give the activations
    that may run now.  A `_Recv` whose tensor has not been sent is not among them: it is parked, and comes with what follows
    from its `_Send`.  What has to wait for a queue makes `execute` raise `Blocked`, and is put aside (`park`) until the queue
    allows it: `finish`, `park` and `awaited` give it again.  `undo` takes the last `finish` back, with the resources it changed
    and what has begun to wait since (if made with `record`).  What a step gives is in `context.results`.

    `execute` may be called from several threads at once, `begin`, `finish` and `undo` by one at a time.
    """

    def __init__(
        self,
        executable: Executable,
        info: StepInfo | None,
        context: StepContext,
        resources: ResourceManager,
        collector: Collector | None,
        *,
        record: bool = False,
        cancelled: threading.Event | None = None,
        deadline: float | None = None,
    ) -> None:
        self.executable = executable
        self.program = executable.program
        self.stage = executable.stage
        self.info = info
        self.context = context
        self.resources = resources
        self.collector = collector
        self.cancelled = cancelled
        self.deadline = deadline
        self.current: Activation | None = None  # what was executed last
        tokens = collector is not None and collector.level >= 3
        self.state = ExecutorState(self.program, record=record, tokens=tokens)
        self.transfers: Transfers | None = None
        if self.program.has_transfers:
            self.transfers = Transfers(executable.routes, resources, context.container)
        self.waits = Waits(record)
        self.blocked, self._tried = (
            self.waits.parked,
            self.waits.tried,
        )  # the same objects, as long as there are any
        # For each event in the state's journal what was written to resources with it; and how many are no longer there.
        self.written: list[Sequence[Write]] | None = [] if record else None
        self.overrides: list[int] = []  # the numbers of the changes that were made from outside, in order
        self._forgotten = 0
        # What the last execution wrote before it failed, if made with `record`.
        self.half_done: Sequence[Write] = ()

    @property
    def ready(self) -> list[Activation]:
        """What may run now, or runs, in the order in which it became ready; without what is parked."""
        ready = self.state.ready
        if self.blocked:
            ready = [activation for activation in ready if activation not in self.blocked]
        if self.transfers is not None and self.transfers.parked:
            parked = set(self.transfers.parked.values())
            ready = [activation for activation in ready if activation not in parked]
        return ready

    def begin(self) -> list[Activation]:
        """Start the state machine; the activations that may run first."""
        run = self.state.start().run
        if self.transfers is not None:
            self.transfers.settle(run)
        return run

    def execute(self, activation: Activation) -> Outcome:
        """Run the activation's kernel on the tokens that have arrived; a dead one runs nothing.

        Raises OpError, attached to the node, if the kernel fails, and Blocked if it has to wait for a queue.  What a kernel wrote
        before it failed stays until something executes or is taken back.
        """
        self.current = activation
        if self.half_done:
            self.forget_failed()
        item, frame, number = activation
        state = self.state
        start = _now()
        if item.flow >= SEND:
            return self._transfer(activation, start)
        if state.is_dead(activation):
            return _new_tuple(Outcome, (None, start, start, ()))  # type: ignore[no-any-return]
        bound = self.executable.bound[item.index]
        inputs = frame.iterations[number].inputs[item.start : item.end]
        if item.flow == MERGE:
            inputs = [None if token is DEAD or token is ABSENT else token for token in inputs]
        for slot in item.derefs:
            if inputs[slot] is not None:  # a Merge's inputs that are not alive
                inputs[slot] = inputs[slot].read(item.node)
        k = bound.context
        if bound.stateful:
            k = k.at(self.resources, self.context, frame.id, number)
        try:
            result = bound.kernel(k, *inputs)
        except Blocked:
            raise
        except Exception as raised:
            if self.written is not None:
                self.half_done = k.writes
            error, node = in_fused(raised, item.node)
            told = error if bound.stateful else about_shapes(error)
            raise explain(told, node) from (error.__cause__ if isinstance(told, errors.OpError) else error)
        if bound.n_outputs == 1:
            outputs: Sequence[Any] = result if type(result) is tuple else (result,)
        elif bound.n_outputs == 0:
            outputs = ()
        else:
            outputs = result
            if item.flow:  # a Switch gives None for the branch not taken
                outputs = [DEAD if value is None else value for value in result]
        if checker is not None:
            checker(item.node, outputs)
        return _new_tuple(Outcome, (outputs, start, _now(), k.writes))  # type: ignore[no-any-return]

    def _transfer(self, activation: Activation, start: int) -> Outcome:
        """Send, dead or alive; or receive."""
        assert self.transfers is not None
        item, frame, number = activation
        try:
            dead = self.state.is_dead(activation)
            if item.flow == SEND:
                value: Any = DEAD if dead else frame.iterations[number].inputs[item.start]
                if item.derefs and not dead:
                    value = value.read(item.node)
                write = self.transfers.send(activation, value, start)
                outputs: Sequence[Any] | None = None if dead else ()
            else:
                value, write = self.transfers.recv(activation)
                outputs = None if dead or value is DEAD else (value,)
        except Exception as error:
            raise explain(error, item.node) from error.__cause__
        if checker is not None and outputs is not None:
            checker(item.node, outputs)
        return Outcome(outputs, start, _now(), (write,))

    def finish(self, activation: Activation, outcome: Outcome) -> Instructions:
        """Deliver the outputs and report the execution; gives what follows."""
        collector = self.collector
        row = -1
        if collector is not None:
            row = collector.executed(
                activation, outcome.start_ns, outcome.end_ns, outcome.outputs, outcome.writes
            )
            device = self.executable.bound[activation.item.index].device
            if device is not None:
                collector.allocated(row, device)
        if self.written is not None:
            self.written.append(outcome.writes)
        instructions = self.state.apply(Finished(activation, outcome.outputs))
        if collector is not None and (instructions.changes or instructions.tokens):
            collector.followed(row, instructions.changes, instructions.tokens)
        if self.transfers is not None:
            self.transfers.settle(instructions.run)
        if self._tried:
            if activation in self._tried:
                self.waits.done(activation, self._events)
            instructions.run.extend(self.waits.allowed(self._events))
        return instructions

    @property
    def is_alone(self) -> bool:
        """Whether to `finish` is to move the state machine on and no more: nobody is told, and nothing waits."""
        return self.collector is None and self.transfers is None and not self._tried

    @property
    def _events(self) -> int:
        """How many events there have been, if they are recorded."""
        return self._forgotten + (0 if self.written is None else len(self.written))

    def park(self, activation: Activation, blocked: Blocked, allows: bool = True) -> list[Activation]:
        """Put aside an activation that has to wait for a queue; gives those that can go on because it waits (room for it).

        Without `allows`, nobody goes on yet.
        """
        self.waits.park(activation, blocked, self._events)
        return self.waits.allowed(self._events) if allows else []

    def unpark(self, activation: Activation) -> None:
        """Take the last `park` back, that of `activation`; nothing has been finished since."""
        while activation in self.waits.parked:
            self.waits.back_one()

    def awaited(self, seconds: float) -> list[Activation]:
        """Wait so long for a change of a queue that something waits for; the activations that can go on."""
        wait(self.blocked.values(), seconds)
        return self.waits.allowed(self._events)

    def amend(
        self,
        activation: Activation,
        edits: Sequence[tuple[list[Any], int, Any]] = (),
        writes: Sequence[Write] = (),
        told: Override | None = None,
    ) -> None:
        """Note a change that somebody makes from outside, which `undo` takes back like an execution.

        activation: what stands for it in the event that `undo` gives.  edits: tokens to change, as `ExecutorState.amend`
        takes them.  writes: what has been written to resources.  told: what observers are told of it.  Raises ValueError
        without a history.
        """
        if self.written is None:
            raise ValueError("this step keeps no history; make it with record=True")
        self.state.amend(Finished(activation, ()), edits)
        self.written.append(writes)
        self.overrides.append(-1 if told is None else told.number)
        if told is not None and self.collector is not None:
            self.collector.overridden(told)

    def descends(self, override: int) -> None:
        """Tell observers that the last execution descends from the override of that number."""
        if self.collector is not None:
            self.collector.descends(override)

    def undo(self) -> Finished:
        """Take the last finished activation back: tokens, frames and resources are as before it ran."""
        if self.written is None:
            raise ValueError("this step keeps no history; make it with record=True")
        self.forget_failed()
        amended, plain = self.state.last_amended(), self.state.last_is_plain()
        event = self.state.undo()
        self.waits.back(self._events)
        for write in reversed(self.written.pop()):
            self.resources.undo(write)
        if amended:  # nothing has executed
            override = self.overrides.pop()
            if self.collector is not None and override >= 0:
                self.collector.override_back(override)
            return event
        if event.activation.item.node.type == "_Retval":
            self.context.results[event.activation.item.node.attrs["index"]] = None
        if self.transfers is not None and (not plain or _touches_transfers(event.activation.item)):
            self.transfers.park_anew(self.state.ready)
        if self.collector is not None:
            self.collector.retract()
        return event

    def forget_failed(self) -> None:
        """Take back what an execution has written that failed."""
        for write in reversed(self.half_done):
            self.resources.undo(write)
        self.half_done = ()

    def stop_recording(self) -> None:
        """Keep nothing for `undo` from now on."""
        self.written = None
        self.half_done = ()
        self.waits.forget()
        self.state.stop_recording()

    def forget(self, keep: int) -> None:
        """Let go of what `undo` needs, but for the last `keep` events."""
        if self.written is not None:
            count = max(0, len(self.written) - keep)
            del self.written[:count]
            self._forgotten += count
            self.waits.forget(self._forgotten)
        self.state.forget(keep)

    def hand_over(self) -> None:
        """Let go of what `undo` needs: the state's journal is now of whoever else has it."""
        self.state.hand_over()
        self.forget(0)

    # Ends.

    def close(self) -> None:
        """The step is over: nobody waits for a tensor any more, so that nothing holds on to what waited."""
        if self.transfers is not None:
            self.transfers.rendezvous.forget_waiting()
        self.waits.close(self.context.id)

    def check_complete(self) -> None:
        """Raise InternalError, saying who waits for what and why it does not come, if nothing can run and `_Recv`s are parked."""
        if self.transfers is not None and self.transfers.parked and not self.ready:
            error = diagnosis.stuck(self)
            self.transfers.rendezvous.abort(error)
            raise error

    def check_interrupts(self) -> None:
        """Raise CancelledError or DeadlineExceededError, saying where the step was, if it should stop."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise self._at_next(
                errors.CancelledError(
                    None,
                    None,
                    f"The step was cancelled: its session was closed while it ran; next to run: {self.where()}",
                )
            )
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise self._at_next(
                errors.DeadlineExceededError(
                    None, None, f"Timed out waiting for the step to finish; next to run: {self.where()}"
                )
            )

    def where(self) -> str:
        """The activations that are ready or running, in words: node, frame and iteration of the first three."""
        # An interrupt may come between taking an activation off the state and putting on what follows from it.
        ready = self.ready or ([self.current] if self.current is not None and not self.blocked else [])
        named = ", ".join(diagnosis.place(each, self.executable) for each in ready[:3])
        found = named + (f" and {len(ready) - 3} more" if len(ready) > 3 else "") if ready else "nothing"
        parked = list(self.transfers.parked) if self.transfers is not None else []
        if parked:
            found += f"; {len(parked)} waiting to receive, first {parked[0]}"
        for activation, waiting in list(self.blocked.items())[:3]:
            found += f"; {diagnosis.place(activation, self.executable)} waits for {waiting.reason}"
        return found

    def _at_next(self, error: errors.OpError) -> errors.OpError:
        ready = self.ready
        return error.attach(ready[0].item.node) if ready else error


def _touches_transfers(item: Item) -> bool:
    """Whether an item that changes no frames sends or receives, or lets a `_Recv` begin to wait."""
    return item.flow >= SEND or any(target.flow == RECV for target in item.control_out)
