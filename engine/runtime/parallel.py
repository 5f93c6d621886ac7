"""The driver for several threads: one executor a device, and expensive kernels to whoever is free.

An executor takes what is ready on its device, first come, first served, and runs cheap kernels one after the other on its
thread.  An expensive one (`engine.runtime.costs`) goes to a pool, from which any thread takes it that has nothing else to do.
The state machine moves under a lock; kernels run outside of it.  No more kernels run at once than there are threads, the
caller's being one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from engine.op.queues import Blocked
from engine.runtime import costs
from engine.runtime.frames import Activation
from engine.runtime.step import Outcome, StepRun

_QUEUE_SECONDS = 0.002  # between two looks at the queues that a step waits for
_LOOK_UP_SECONDS = 0.05  # between two looks at whether the step should stop, while other threads run kernels


class Parallel:
    """Several threads; see the module.

    threads: how many (0: one for each CPU device of the step; a device with streams works while its caller goes on).
    expensive_ns: what a kernel must take to go to another thread (0: what has been measured to pay).
    """

    record = False

    def __init__(self, threads: int = 0, expensive_ns: int = 0) -> None:
        self.threads = threads
        self.expensive_ns = expensive_ns or costs.EXPENSIVE_NS
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def drive(self, step: StepRun) -> None:
        helpers = (self.threads or sum(device.plain for device in step.executable.devices) or 1) - 1
        run = _Run(step, self.expensive_ns)
        futures = [self._helper_pool(helpers).submit(run.work) for _ in range(helpers)]
        try:
            run.work(is_caller=True)
        finally:
            run.stop(futures)
        failure, run.failure = run.failure, None
        if failure is not None:
            raise failure

    def _helper_pool(self, helpers: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._pool._max_workers < helpers:
                self._pool = ThreadPoolExecutor(helpers, thread_name_prefix="inter_op")
            return self._pool

    def close(self) -> None:
        """Let the threads end; steps under way go on to their end."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None


class _Run:
    """One step on several threads.  All that is here is read and changed with `_lock` held."""

    def __init__(self, step: StepRun, expensive_ns: int) -> None:
        self.failure: BaseException | None = None
        self._step = step
        self._bound = step.executable.bound
        self._expensive_ns = expensive_ns
        # Held as itself, not as the condition: an interrupt on the way into the condition's own `with` would leave it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._lanes: list[deque[Activation]] = [deque() for _ in step.executable.devices]
        self._led: list[bool] = [False] * len(self._lanes)  # which lanes have an executor at work
        self._pool: deque[Activation] = deque()
        self._busy = 0
        self._idle = 0
        self._hand_out(step.begin())

    def work(self, is_caller: bool = False) -> None:
        """Be one of the threads, until the step is over."""
        try:
            with np.errstate(all="ignore"):
                while (task := self._next(is_caller)) is not None:
                    self._carry_out(*task)
        except BaseException as error:
            with self._lock:
                self.failure = self.failure or error
                self._changed.notify_all()

    def stop(self, helpers: Sequence[Future[None]]) -> None:
        """Wait for the threads that have begun; those that have not need not."""
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        del self._step, self._lanes, self._pool  # a thread of the pool may hold this for a moment longer

    def _next(self, is_caller: bool) -> tuple[int, Activation] | None:
        """What to do next: a lane to lead and its first activation, or (-1, an expensive one).  None at the end."""
        with self._lock:
            while True:
                if self.failure is not None:
                    return None
                for number, lane in enumerate(self._lanes):
                    if lane and not self._led[number]:
                        self._led[number] = True
                        self._busy += 1
                        return number, lane.popleft()
                if self._pool:
                    self._busy += 1
                    return -1, self._pool.popleft()
                if not self._busy and not self._step.blocked:
                    self._changed.notify_all()
                    return None
                waits = is_caller and bool(
                    self._step.blocked
                )  # the caller looks after what waits for a queue
                self._idle += 1
                try:
                    self._changed.wait(_QUEUE_SECONDS if waits else _LOOK_UP_SECONDS if is_caller else None)
                finally:
                    self._idle -= 1
                if waits:
                    self._hand_out(self._step.awaited(0.0))
                if is_caller:
                    self._step.check_interrupts()

    def _carry_out(self, lane: int, activation: Activation) -> None:
        """Run the activation, and then what follows on the lane (that of an expensive kernel's device, if it has no executor)."""
        step = self._step
        try:
            while True:
                outcome: Outcome | None = None
                try:
                    outcome = step.execute(activation)
                except Blocked as found:
                    blocked = found
                bound = self._bound[activation.item.index]
                with self._lock:
                    if outcome is None:
                        self._hand_out(step.park(activation, blocked))
                    else:
                        if outcome.outputs is not None:
                            costs.note(bound, outcome.end_ns - outcome.start_ns)
                        self._hand_out(step.finish(activation, outcome).run)
                    step.check_interrupts()
                    if lane < 0 and not self._led[bound.lane]:
                        lane = bound.lane
                        self._led[lane] = True
                    if lane < 0 or not self._lanes[lane] or self.failure is not None:
                        return
                    activation = self._lanes[lane].popleft()
        finally:
            with self._lock:
                self._busy -= 1
                if lane >= 0:
                    self._led[lane] = False
                if not self._busy:
                    self._changed.notify_all()

    def _hand_out(self, run: Sequence[Activation]) -> None:
        """Put activations where somebody takes them, and wake who is needed."""
        wanted = 0
        for activation in run:
            item = activation.item
            bound = self._bound[item.index]
            if costs.is_expensive(bound, item.node.type, self._expensive_ns):
                self._pool.append(activation)
                wanted += 1
            else:
                self._lanes[bound.lane].append(activation)
                wanted += not self._led[bound.lane]
        if wanted and self._idle:
            self._changed.notify(min(wanted, self._idle))
