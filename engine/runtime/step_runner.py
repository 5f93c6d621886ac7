"""StepRunner: runs the steps of a session, on a plan or the interpreter, and tells observers of them."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import observe
from engine.graph.graph import Graph
from engine.graph.operation import Operation
from engine.passes.stage import Stage
from engine.runtime import calm
from engine.runtime import driver as drivers
from engine.runtime.collector import Collector
from engine.runtime.config import ConfigProto, RunOptions, TraceLevel
from engine.runtime.context import StepContext
from engine.runtime.executable import Executable
from engine.runtime.fetches import result_of
from engine.runtime.interrupts import Held
from engine.runtime.resources import ResourceManager
from engine.runtime.step import StepRun
from engine.types import errors, site

if TYPE_CHECKING:
    from engine.runtime.plan.plan import Plan

_session_ids = itertools.count(1)
step_ids = itertools.count(1)


class StepRunner:
    """What a session runs its steps with: the graph, the driver that it runs with unless one is installed, and its resources."""

    def __init__(self, graph: Graph, config: ConfigProto, driver: drivers.Driver) -> None:
        self._graph = graph
        self._config = config
        self._driver = driver
        self._id = next(_session_ids)
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._steps = itertools.count(1)
        self._told: weakref.WeakKeyDictionary[observe.Observer, set[int]] = weakref.WeakKeyDictionary()
        self.resources = ResourceManager()

    def _run_step(
        self, executable: Executable, feeds: list[Any], options: RunOptions | None, run_metadata: Any
    ) -> list[Any]:
        """One step: results for the executable's fetches, in order."""
        observers = observe.installed()
        if run_metadata is not None and options is not None:
            traced = options.trace_level >= TraceLevel.FULL_TRACE
            if traced or options.output_partition_graphs:
                from engine.runtime.metadata import MetadataObserver

                observers = (
                    *observers,
                    MetadataObserver(run_metadata, traced, options.output_partition_graphs),
                )
        driver = drivers.installed() or self._driver
        observers = tuple(observer for observer in observers if observer.level > observe.TraceLevel.OFF)
        context = StepContext(next(step_ids), feeds, len(executable.stage.fetches))
        context.borrowed = True
        timeout = (
            options.timeout_in_ms if options is not None else 0
        ) or self._config.operation_timeout_in_ms
        if driver is self._driver and not observers:
            plan = executable.choice.for_run(self._config)
            if plan is not None:
                return self._run_plan(plan, context, timeout)
        why = "a driver of its own chooses among the ready nodes"
        if driver is self._driver:
            why = "the level 'full' tells of every token"
            level = max((observer.level for observer in observers), default=observe.TraceLevel.OFF)
            if level < observe.TraceLevel.FULL:
                plan = executable.choice.for_run(self._config) if observers else None
                if plan is not None and not plan.joins:
                    return self._run_traced_plan(plan, context, timeout, observers, level)
                why = executable.choice.why_not(self._config.plans)
        info = None
        collector = None
        if observers:
            # Before the step begins, whose time is the program's.
            self._tell_stages(observers, executable.stage)
        if observers or driver is not self._driver:
            info = self._describe(executable, context, f"interpreter: {why}")
        if observers and info is not None:
            collector = Collector(observers, info, executable.device)
            collector.begin()
        # Tokens are handed on as they are: what is fetched or kept may share memory with a feed.
        context.feeds = [feed.copy() if isinstance(feed, np.ndarray) else feed for feed in feeds]
        step = StepRun(
            executable,
            info,
            context,
            self.resources,
            collector,
            record=driver.record,
            cancelled=self._cancelled,
            deadline=time.monotonic() + timeout / 1000 if timeout else None,
        )
        failure: BaseException | None = None
        token = calm.begin(executable.multiplies)
        try:
            driver.drive(step)
            step.check_complete()
            return self._results(context, step.stage)
        except errors.OpError as error:
            self._point_at_operation(error, step.stage)
            failure = error
            raise
        except BaseException as error:
            failure = error
            if isinstance(error, KeyboardInterrupt):
                error.add_note(f"interrupted in Session.run; next to run: {step.where()}")
            raise
        finally:
            with Held():
                calm.end(token, executable.multiplies)
                step.close()
                self.resources.clear((context.container,))
                if collector is not None:
                    collector.end(time.perf_counter_ns(), failure)

    def _run_plan(self, plan: Plan, context: StepContext, timeout_ms: int) -> list[Any]:
        """One step of a plan that nobody watches."""
        timeout_ms = timeout_ms or self._config.operation_timeout_in_ms
        deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms else None
        multiplies = plan.executable.multiplies
        token = calm.begin(multiplies)
        try:
            plan.run(context, self.resources, self._cancelled, deadline)
            return self._results(context, plan.executable.stage)
        except errors.OpError as error:
            self._point_at_operation(error, plan.executable.stage)
            raise
        finally:
            calm.end(token, multiplies)
            if plan.uses_step:
                self.resources.clear((context.container,))

    def _run_traced_plan(
        self,
        plan: Plan,
        context: StepContext,
        timeout_ms: int,
        observers: Sequence[observe.Observer],
        level: observe.TraceLevel,
    ) -> list[Any]:
        """One step of a plan that somebody watches, at a level below FULL."""
        from engine.runtime.plan.record import Log

        executable = plan.executable
        deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms else None
        self._tell_stages(observers, executable.stage)
        special = plan.special(context.feeds, level)
        layout = plan.layout(level, special)
        if special is None:  # before the step begins, whose time is the program's
            plan.program(level)
        else:
            special.noted(plan.executable, level)
        how = "plan (python)" if special is None else "plan (tape)"
        log = Log(layout, observers, self._describe(executable, context, how), executable.device)
        log.begin()
        failure: BaseException | None = None
        token = calm.begin(executable.multiplies)
        try:
            plan.run(context, self.resources, self._cancelled, deadline, level, log, special)
            return self._results(context, executable.stage)
        except BaseException as error:
            failure = error
            if isinstance(error, errors.OpError):
                self._point_at_operation(error, executable.stage)
            raise
        finally:
            with Held():
                calm.end(token, executable.multiplies)
                self.resources.clear((context.container,))
                log.end(time.perf_counter_ns(), failure)

    def _results(self, context: StepContext, stage: Stage) -> list[Any]:
        """What the step has fetched, as the caller gets it.  Raises InvalidArgumentError for a dead tensor."""
        found: list[Any] = []
        for value in context.results:
            if value is None:
                raise self._dead(len(found), stage)
            found.append(result_of(value))
        return found

    @staticmethod
    def _dead(index: int, stage: Stage) -> errors.InvalidArgumentError:
        name = stage.fetches[index]
        error = errors.InvalidArgumentError(
            None,
            None,
            f"Retval[{index}] does not have value: the fetched tensor '{name}' is dead, since it lies in a branch that "
            "was not taken",
        )
        error.attach(stage.chain()[0].nodes[name.rpartition(":")[0]])
        return error

    def _describe(self, executable: Executable, context: StepContext, executor: str) -> observe.StepInfo:
        stage = executable.stage
        return observe.StepInfo(
            id=context.id,
            session=self._id,
            step=next(self._steps),
            stage=stage,
            fetches=stage.fetches,
            feeds=stage.feeds,
            targets=stage.targets,
            site=site.frames(),
            started_ns=time.perf_counter_ns(),
            started_unix_ns=time.time_ns(),
            thread=threading.get_ident(),
            devices=executable.devices,
            executor=executor,
        )

    def _tell_stages(self, observers: Sequence[observe.Observer], stage: Stage) -> None:
        """Give each observer the stages of the chain that it has not seen."""
        with self._lock:
            for observer in observers:
                told = self._told.setdefault(observer, set())
                for each in stage.chain():
                    if each.id not in told:
                        told.add(each.id)
                        observer.stage(each)

    def _point_at_operation(self, error: errors.OpError, stage: Stage | None = None) -> None:
        """Make `error.op` the graph's Operation, which is what the caller knows, rather than a node of `stage`."""
        node = error.op
        if node is None or isinstance(node, Operation):
            return
        if stage is not None and node.name in stage.nodes:
            node = stage.written(node.name)
        error.op = self._graph._nodes.get(node.name, node)
        # A fused node has the site of the last of those that it stands for.
        error.site = getattr(error.op, "site", error.site)
