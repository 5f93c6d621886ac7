"""Session: runs parts of a graph, under TensorFlow 1's interface."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import observe
from engine.device.device import Device, make_devices
from engine.graph.default import get_default_graph, pop_session, push_session
from engine.graph.graph import Graph
from engine.graph.tensor import Tensor
from engine.passes.build import Builder
from engine.passes.inline import inline
from engine.passes.prune import prune
from engine.passes.settings import Settings
from engine.passes.stage import Stage
from engine.runtime import driver as drivers
from engine.runtime.call import Call, converter
from engine.runtime.config import ConfigProto, RunOptions
from engine.runtime.executable import Executable
from engine.runtime.failures import let_go
from engine.runtime.fetches import Fetches, flatten_feeds
from engine.runtime.parallel import Parallel
from engine.runtime.plan.choose import MODES
from engine.runtime.preparing import prepare
from engine.runtime.step_runner import StepRunner, step_ids
from engine.types import errors

if TYPE_CHECKING:
    from engine.runtime.plan.explain import Explanation

_MOST_CALLS = 1000
_CALLERS = (TypeError, ValueError, errors.OpError)  # errors that are about what the caller asked for


class DeviceAttributes:
    """What `Session.list_devices` says of a device: `name`, `device_type`, `memory_limit_bytes`, `incarnation`."""

    __slots__ = ("_description", "device_type", "incarnation", "memory_limit_bytes", "name")

    def __init__(self, device: Device) -> None:
        self.name = device.name
        self.device_type = device.type
        self.memory_limit_bytes = device.memory_limit
        self.incarnation = device.incarnation
        self._description = device.description

    def __repr__(self) -> str:
        return (
            f"_DeviceAttributes({self.name}, {self.device_type}, {self.memory_limit_bytes}, {self.incarnation})"
            f"  # {self._description}"
        )


class _Signature(NamedTuple):
    """What a run's executable depends on."""

    fetches: tuple[str, ...]
    targets: tuple[str, ...]
    feeds: tuple[str, ...]
    edits: int


class BaseSession(StepRunner):
    """What `Session` and `InteractiveSession` share; see `Session`."""

    def __init__(
        self, target: str = "", graph: Graph | None = None, config: ConfigProto | None = None
    ) -> None:
        if target:
            raise errors.UnimplementedError(
                None,
                None,
                f"There is no server to connect to at '{target}': sessions run in this process (target='')",
            )
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be a Graph, not {type(graph).__name__}")
        if config is not None and not isinstance(config, ConfigProto):
            raise TypeError(f"config must be a ConfigProto, not {type(config).__name__}")
        config = config or ConfigProto()
        if config.plans not in MODES:
            raise ValueError(f"ConfigProto.plans must be one of {', '.join(MODES)}, not '{config.plans}'")
        graph_options = config.graph_options
        self._passes = Settings(graph_options.optimizer_options, graph_options.rewrite_options)
        self._devices = make_devices(config)
        threads = config.inter_op_parallelism_threads
        one_thread = (
            threads == 1
            or threads < 0
            or (threads == 0 and sum(device.plain for device in self._devices) == 1)
        )
        driver: drivers.Driver = (
            drivers.Sequential() if one_thread else Parallel(threads, config.expensive_kernel_ns)
        )
        super().__init__(graph if graph is not None else get_default_graph(), config, driver)
        self._closed = False
        self._builder = Builder(self._graph)
        self._fetches: dict[Any, Fetches] = {}
        self._executables: dict[_Signature, Executable] = {}
        self._calls: dict[Any, Call] = {}
        self._converters: weakref.WeakKeyDictionary[Tensor, Callable[[Any], Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._homes: dict[str, str] = {}

    # What it is.

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def graph_def(self) -> Any:
        """The graph as a GraphDef."""
        return self._graph.as_graph_def()

    @property
    def sess_str(self) -> str:
        return ""

    def list_devices(self) -> list[DeviceAttributes]:
        """The devices that nodes can be placed on, as TensorFlow's `Session.list_devices`."""
        return [DeviceAttributes(device) for device in self._devices]

    @property
    def devices(self) -> tuple[Device, ...]:
        """The session's devices themselves: their memory, their streams, how fast they are."""
        return self._devices

    # Running.

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: RunOptions | None = None,
        run_metadata: Any = None,
    ) -> Any:
        """Run what `fetches` needs and return their values in the same structure (None for an Operation).

        fetches: a Tensor, Operation, variable, or name of one, or a list, tuple, named tuple or dict of fetches.
        feed_dict: values that replace tensors in this run; keys are tensors or names.  Nothing is written to them, and nothing
            that the run gives or keeps shares memory with them; while it goes on they must stay as they are.
        options: trace level and timeout.  run_metadata: a `RunMetadata`, filled in at FULL_TRACE.

        Raises RuntimeError if the session is closed, TypeError and ValueError for what cannot be fetched or fed, and OpError
        subclasses for what goes wrong while running.
        """
        if self._closed:
            self._check_open()
        try:
            key = None
            if options is None and run_metadata is None:
                key = _key_of(fetches, feed_dict)
                call = self._call(key)
                if call is not None:
                    context = call.step(next(step_ids), feed_dict.values() if feed_dict else ())
                    return call.rebuild(self._run_plan(call.plan, context, 0))
            taken = self._take_apart(fetches)
            feeds = flatten_feeds(self._graph, feed_dict)
            arrays = [self._converter(tensor)(value) for tensor, value in feeds]
            executable = self._executable(taken, [tensor for tensor, _ in feeds])
            results = self._run_step(executable, arrays, options, run_metadata)
            if key is not None:
                self._remember(key, executable, taken, [tensor for tensor, _ in feeds])
            return taken.rebuild(results)
        except BaseException as error:
            let_go(error)
            if not isinstance(error, _CALLERS):
                raise
            # The message says all that the caller can act on; how deep in here it was found would only hide it.
            raise error.with_traceback(None) from error.__cause__

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function that runs `fetches`, with a positional argument for each of `feed_list`.

        With `accept_options` it takes `options` and `run_metadata` by keyword too.  Faster than `run`: names are resolved once.
        """
        self._check_open()
        taken = Fetches(self._graph, fetches)
        if feed_list is not None and not isinstance(feed_list, list | tuple):
            raise TypeError("feed_list must be a list or tuple of tensors")
        tensors = [self._feedable(each) for each in feed_list or ()]
        key = ("make_callable", object())  # like no other

        def call(*args: Any, options: RunOptions | None = None, run_metadata: Any = None) -> Any:
            self._check_open()
            if len(args) != len(tensors):
                raise TypeError(f"The callable takes {len(tensors)} feeds, {len(args)} were given")
            if not accept_options and (options is not None or run_metadata is not None):
                raise TypeError("Make the callable with accept_options=True to pass options or run_metadata")
            try:
                ready = self._call(key) if options is None and run_metadata is None else None
                if ready is not None:
                    return ready.rebuild(self._run_plan(ready.plan, ready.step(next(step_ids), args), 0))
                pairs = zip(tensors, args, strict=True)
                arrays = [self._converter(tensor)(value) for tensor, value in pairs]
                executable = self._executable(taken, tensors)
                results = self._run_step(executable, arrays, options, run_metadata)
                self._remember(key, executable, taken, tensors)
                return taken.rebuild(results)
            except BaseException as error:
                let_go(error)
                if not isinstance(error, _CALLERS):
                    raise
                raise error.with_traceback(None) from error.__cause__

        return call

    def _converter(self, tensor: Tensor) -> Callable[[Any], Any]:
        """What makes a value the array that `tensor` is fed with; one that fits is taken as it is."""
        found = self._converters.get(tensor)
        if found is None:
            found = self._converters[tensor] = converter(self._graph, tensor)
        return found

    def _call(self, key: Any) -> Call | None:
        """What is ready to run under `key`, if nobody watches and the graph is as it was."""
        try:
            call = self._calls.get(key)
        except TypeError:  # something in the key cannot be hashed
            return None
        if call is None or observe.installed() or drivers.installed() is not None:
            return None
        if call.edits != self._graph._edits:
            self._calls.pop(key, None)
            return None
        return call

    def _remember(self, key: Any, executable: Executable, taken: Fetches, feeds: Sequence[Tensor]) -> None:
        """Have a call ready under `key` from now on, if the executable has a plan."""
        plan = executable.choice.plan
        if plan is None or self._config.plans == "off" or len(self._calls) >= _MOST_CALLS:
            return
        with contextlib.suppress(TypeError):
            hash(key)
            self._calls[key] = Call(self._graph, plan, taken, [self._converter(tensor) for tensor in feeds])

    def _feedable(self, key: Any) -> Tensor:
        try:
            element = self._graph.as_graph_element(key, allow_operation=False)
        except (TypeError, ValueError, KeyError) as error:
            raise TypeError(f"Cannot interpret {key!r} in feed_list as Tensor: {error.args[0]}") from None
        assert isinstance(element, Tensor)
        return element

    def stage_for(self, fetches: Any, feeds: Sequence[Any] = ()) -> Stage:
        """The last stage that running `fetches` with these tensors fed would go through; its `chain()` holds all."""
        taken = Fetches(self._graph, fetches)
        return self._executable(taken, [self._feedable(each) for each in feeds]).stage

    def explain(self, fetches: Any, feeds: Sequence[Any] = ()) -> Explanation:
        """What would run `fetches` with these tensors fed: a plan, line by line, or the interpreter and why; runs nothing.

        Raises what `run` raises for what cannot be fetched, fed, placed or compiled.
        """
        from engine.runtime.plan.explain import explain

        self._check_open()
        taken = Fetches(self._graph, fetches)
        executable = self._executable(taken, [self._feedable(each) for each in feeds])
        return explain(executable, self._config)

    def _take_apart(self, fetches: Any) -> Fetches:
        """`Fetches`, remembered for structures that can be looked up."""
        key: Any = fetches
        if isinstance(fetches, list):
            key = ("list", *fetches)
        try:
            found = self._fetches.get(key)
        except TypeError:  # not hashable: nested lists, dicts
            return Fetches(self._graph, fetches)
        if found is None:
            found = Fetches(self._graph, fetches)
            if len(self._fetches) < 1000:
                self._fetches[key] = found
        return found

    def _executable(self, taken: Fetches, feeds: Sequence[Tensor]) -> Executable:
        """The program for these fetches and feeds, made once."""
        signature = _Signature(
            tuple(tensor.name for tensor in taken.tensors),
            tuple(op.name for op in taken.targets),
            tuple(tensor.name for tensor in feeds),
            self._graph._edits,
        )
        executable = self._executables.get(signature)
        if executable is None:
            with self._lock:
                executable = self._executables.get(signature)
                if executable is None:
                    try:
                        stage = prune(
                            self._builder.stage(), signature.feeds, signature.fetches, signature.targets
                        )
                        stage = inline(stage, self._graph._functions)
                        stage = prepare(stage, self._config, self._passes, self._devices, self._homes)
                        executable = Executable(stage, self._devices)
                    except errors.OpError as error:
                        self._point_at_operation(error)
                        raise
                    self._executables[signature] = executable
        return executable

    # Closing.

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")

    def close(self) -> None:
        """Release the session's resources; running steps are cancelled.  Closing twice does nothing."""
        self._closed = True
        self._cancelled.set()
        if isinstance(self._driver, Parallel):
            self._driver.close()
        for device in self._devices:
            device.close()
        self._executables.clear()
        self._calls.clear()
        self._fetches.clear()

    def as_default(self) -> contextlib.AbstractContextManager[Any]:
        """Make this the default session (and not its graph the default graph) inside a `with` block."""
        return _as_default(self)

    def __del__(self) -> None:
        if sys is not None and not sys.is_finalizing() and hasattr(self, "_cancelled"):
            self.close()


def _key_of(fetches: Any, feed_dict: Any) -> Any:
    """What a run is known by: its fetches and the tensors that are fed, in their order.  None if that cannot be told fast.

    Only tensors count as keys of feeds: a name or a nested key means what the graph says of it.
    """
    kind = type(fetches)
    if kind is list:
        fetches = tuple(fetches)
    if not feed_dict:
        return kind, fetches
    if type(feed_dict) is not dict:
        return None
    for key in feed_dict:
        if type(key) is not Tensor:
            return None
    return kind, fetches, *feed_dict


@contextlib.contextmanager
def _as_default(session: BaseSession) -> Iterator[BaseSession]:
    push_session(session)
    try:
        yield session
    finally:
        pop_session(session)


class Session(BaseSession):
    """Runs operations of one graph, keeping variables between runs.

    As TensorFlow 1's `tf.Session`: `with tf.Session() as sess:` makes it and its graph the defaults and closes it at the end.
    Several threads may call `run` at once.  Operations added to the graph later can be run like any other.
    """

    def __init__(
        self, target: str = "", graph: Graph | None = None, config: ConfigProto | None = None
    ) -> None:
        super().__init__(target, graph, config)
        self._blocks: list[contextlib.ExitStack] = []

    def __enter__(self) -> Session:
        block = contextlib.ExitStack()
        block.enter_context(self._graph.as_default())
        block.enter_context(self.as_default())
        self._blocks.append(block)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._blocks.pop().__exit__(*exc_info)
        self.close()

    @staticmethod
    def reset(
        target: str, containers: Sequence[str] | None = None, config: ConfigProto | None = None
    ) -> None:
        """TensorFlow 1 resets a server's containers with this; sessions here keep their own, so there is nothing to reset."""
        del target, containers, config


class InteractiveSession(BaseSession):
    """A session that is the default from the start, for shells and notebooks; `close` ends that."""

    def __init__(
        self, target: str = "", graph: Graph | None = None, config: ConfigProto | None = None
    ) -> None:
        super().__init__(target, graph, config)
        self._default_graph = self._graph.as_default() if graph is not None else None
        if self._default_graph is not None:
            self._default_graph.__enter__()
        push_session(self)

    def close(self) -> None:
        if self._closed:
            return
        super().close()
        pop_session(self)
        if getattr(self, "_default_graph", None) is not None:
            self._default_graph.__exit__(None, None, None)  # type: ignore[union-attr]  # just asked
            self._default_graph = None
