"""Running a step: a `StepRun` executes activations and moves the state machine on; a driver decides which and when.

The default driver takes ready activations first come, first served; with `inter_op_parallelism_threads` above one, several
threads do.  A debugger installs its own (`install`) and then every `Session.run` of the process goes through it.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from engine.observe import StepInfo
from engine.passes.stage import Stage, StageNode
from engine.runtime.collector import Collector
from engine.runtime.context import KernelContext, StepContext
from engine.runtime.program import MERGE, Item, Program
from engine.runtime.resources import ResourceManager, Write
from engine.runtime.state import ABSENT, DEAD, Activation, ExecutorState, Finished, Instructions
from engine.types import errors

_now = time.perf_counter_ns
_new_tuple: Any = tuple.__new__  # past a named tuple's own, slower, constructor


class Outcome(NamedTuple):
    """What executing an activation gave: its output tokens (None: it was dead), when, and what it wrote."""

    outputs: Sequence[Any] | None
    start_ns: int
    end_ns: int
    writes: Sequence[Write] = ()


class BoundItem:
    """An item with its kernel, chosen for its device and dtypes, and the kernel's context."""

    __slots__ = ("allows_uninitialized", "context", "kernel", "n_outputs", "stateful")

    def __init__(self, item: Item, device_type: str, xp: Any) -> None:
        node = item.node
        kernel = node.opdef.kernel_for(device_type, (*node.input_dtypes, *node.output_dtypes))
        if kernel is None:
            error = errors.UnimplementedError(
                None, None, f"There is no kernel of '{node.type}' for {device_type}"
            )
            error.attach(node)
            raise error
        self.kernel: Callable[..., Any] = kernel
        self.context = KernelContext(node, xp)
        self.n_outputs = item.n_outputs
        self.stateful = node.opdef.stateful
        self.allows_uninitialized = node.opdef.allows_uninitialized


class Executable:
    """A program with kernels: everything about a `Session.run` signature that does not change between steps."""

    def __init__(self, stage: Stage, device: str = "/job:localhost/replica:0/task:0/device:CPU:0") -> None:
        self.stage = stage
        self.device = device
        self.program = Program(stage)
        self.bound = [BoundItem(item, "CPU", np) for item in self.program.items]


class StepRun:
    """One step under way.

    `execute` runs an activation's kernel and `finish` moves the state machine; `undo` takes the last `finish` back, with the
    resources it changed (if made with `record`).  What a step gives is in `context.results`.
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
        self._history: list[Sequence[Write]] | None = [] if record else None

    def begin(self) -> list[Activation]:
        """Start the state machine; the activations that are ready first."""
        return self.state.start().run

    def execute(self, activation: Activation) -> Outcome:
        """Run the activation's kernel on the tokens that have arrived; a dead one runs nothing.

        Raises OpError, attached to the node, if the kernel fails.
        """
        self.current = activation
        item, frame, number = activation
        state = self.state
        start = _now()
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
        except Exception as error:
            told = error if bound.stateful else _about_shapes(error)
            raise explain(told, item.node) from (
                error.__cause__ if isinstance(told, errors.OpError) else error
            )
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

    def finish(self, activation: Activation, outcome: Outcome) -> Instructions:
        """Deliver the outputs and report the execution; gives what follows."""
        collector = self.collector
        row = -1
        if collector is not None:
            row = collector.executed(
                activation, outcome.start_ns, outcome.end_ns, outcome.outputs, outcome.writes
            )
        if self._history is not None:
            self._history.append(outcome.writes)
        instructions = self.state.apply(Finished(activation, outcome.outputs))
        if collector is not None and (instructions.changes or instructions.tokens):
            collector.followed(row, instructions.changes, instructions.tokens)
        return instructions

    def undo(self) -> Finished:
        """Take the last finished activation back: tokens, frames and resources are as before it ran."""
        if self._history is None:
            raise ValueError("this step keeps no history; make it with record=True")
        event = self.state.undo()
        for write in reversed(self._history.pop()):
            self.resources.undo(write)
        if event.activation.item.node.type == "_Retval":
            self.context.results[event.activation.item.node.attrs["index"]] = None
        if self.collector is not None:
            self.collector.retract()
        return event

    def forget(self, keep: int) -> None:
        """Let go of what `undo` needs, but for the last `keep` events."""
        for past in (self._history, self.state.journal):
            if past is not None:
                del past[: max(0, len(past) - keep)]

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
        ready = self.state.ready or ([self.current] if self.current is not None else [])
        named = ", ".join(f"'{each.name}' in {each.frame.path}@{each.iteration}" for each in ready[:3])
        return named + (f" and {len(ready) - 3} more" if len(ready) > 3 else "") if ready else "nothing"

    def _at_next(self, error: errors.OpError) -> errors.OpError:
        ready = self.state.ready
        return error.attach(ready[0].item.node) if ready else error


class Driver(Protocol):
    """Runs a step to its end; `record` says whether its steps keep a journal for `undo`."""

    record: bool

    def drive(self, step: StepRun) -> None:
        """Execute activations of `step` until none is outstanding."""


class Sequential:
    """One thread, first come, first served."""

    record = False

    def drive(self, step: StepRun) -> None:
        execute, finish = step.execute, step.finish
        queue = deque(step.begin())
        countdown = 256
        while queue:
            activation = queue.popleft()
            queue.extend(finish(activation, execute(activation)).run)
            countdown -= 1
            if countdown == 0:
                countdown = 256
                step.check_interrupts()


class Threaded:
    """Several threads take ready activations; the state machine moves under a lock, kernels run outside of it."""

    record = False

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def drive(self, step: StepRun) -> None:
        ready: deque[Activation] = deque(step.begin())
        condition = threading.Condition()
        running = 0
        failure: list[BaseException] = []

        def work() -> None:
            nonlocal running
            with np.errstate(all="ignore"):
                while True:
                    with condition:
                        while not ready and running and not failure:
                            condition.wait()
                        if failure or not ready:
                            condition.notify_all()
                            return
                        activation = ready.popleft()
                        running += 1
                    try:
                        outcome = step.execute(activation)
                        with condition:
                            ready.extend(step.finish(activation, outcome).run)
                            step.check_interrupts()
                    except BaseException as error:
                        with condition:
                            failure.append(error)
                    finally:
                        with condition:
                            running -= 1
                            condition.notify_all()

        helpers = [
            threading.Thread(target=work, name=f"inter_op-{i}", daemon=True) for i in range(self.threads - 1)
        ]
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
        if failure:
            raise failure[0]


_installed: Driver | None = None
checker: Callable[[StageNode, Sequence[Any]], None] | None = None


def install(driver: Driver) -> None:
    """Make every `Session.run` of this process go through `driver`."""
    global _installed
    _installed = driver


def uninstall() -> None:
    """Go back to running steps freely."""
    global _installed
    _installed = None


def installed() -> Driver | None:
    return _installed


_CODES: tuple[tuple[type[BaseException], type[errors.OpError]], ...] = (
    (NotImplementedError, errors.UnimplementedError),
    (MemoryError, errors.ResourceExhaustedError),
    (ValueError, errors.InvalidArgumentError),
    (TypeError, errors.InvalidArgumentError),
    (IndexError, errors.InvalidArgumentError),
    (StopIteration, errors.OutOfRangeError),
)


def _about_shapes(error: Exception) -> Exception:
    """What NumPy says of operands that do not fit, in TensorFlow's words; other errors as they are."""
    text = str(error)
    if not isinstance(error, ValueError) or "could not be broadcast together" not in text:
        return error
    shapes = [f"[{shape.rstrip(',')}]" for shape in re.findall(r"\(([\d,]*)\)", text)]
    return errors.InvalidArgumentError(None, None, f"Incompatible shapes: {' vs. '.join(shapes)}")


def explain(error: Exception, node: StageNode) -> errors.OpError:
    """What a kernel raised, as an OpError attached to its node."""
    if isinstance(error, errors.OpError):
        error.attach(node)
        return error
    kind = next((coded for known, coded in _CODES if isinstance(error, known)), errors.UnknownError)
    explained = kind(None, None, f"{type(error).__name__}: {error}")
    explained.attach(node)
    return explained


def check_outputs(node: StageNode, outputs: Sequence[Any]) -> None:
    """Raise InternalError if a kernel broke its op's promises: number of outputs, dtypes, static shapes.

    Install as `checker` to have it around every kernel; the tests do.
    """
    problem = ""
    if len(outputs) != len(node.output_dtypes):
        problem = f"gave {len(outputs)} outputs, not {len(node.output_dtypes)}"
    for i, (value, dtype, shape) in enumerate(
        zip(outputs, node.output_dtypes, node.output_shapes, strict=False)
    ):
        if value is DEAD or dtype._is_ref_dtype or dtype.name in ("resource", "variant"):
            continue
        if not isinstance(value, np.ndarray | np.generic):
            problem = f"gave a {type(value).__name__} as output {i}, not an array"
        elif value.dtype != dtype.np_dtype:
            problem = f"gave dtype {value.dtype} as output {i}, not {dtype.name}"
        elif not shape.is_compatible_with(value.shape):
            problem = (
                f"gave shape {list(value.shape)} as output {i}, which contradicts the static shape {shape}"
            )
    if problem:
        error = errors.InternalError(None, None, f"The kernel of {node.type} {problem}")
        error.attach(node)
        raise error
