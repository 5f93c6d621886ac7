"""LLVM IR to machine code of this processor, in memory and on disk, at once or in the background.

llvmlite is imported when something is compiled that is not on disk: with 40 to 75 MiB its library takes more memory than most
models, and a process that finds all its code does without (`engine.native.host`, `engine.native.loader`).  Whether it is there
and works, `available` finds out; everything else raises `UnavailableError` where it does not.

Floating point is IEEE 754's: products and sums become one rounding only where the IR says so (``llvm.fma``, ``llvm.fmuladd``, the
flag ``contract``), and nothing is reordered unless its flags allow it.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import importlib
import os
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from engine.native import host as hosts
from engine.native import loader
from engine.native.cache import DiskCache, directory
from engine.native.host import Host
from engine.types.errors import InternalError, UnavailableError

T = TypeVar("T")

_IN_MEMORY = 512  # libraries held on to although nobody else does
_DEFINED = re.compile(
    r'^define\s+(?![^@\n]*\b(?:internal|private)\b)[^@\n]*@"?([\w.$-]+)"?\s*\(', re.MULTILINE
)

# LLVM is entered by one thread at a time: llvmlite has a lock of its own, which a fork would leave locked in the child if another
# thread had it.  So everything goes through this one, and a fork waits for it.
_lock = threading.RLock()


class Library:
    """Compiled functions, which stay loaded as long as this object is there, and `owner` with it."""

    def __init__(self, owner: Any, addresses: dict[str, int]) -> None:
        self._owner = owner
        self._addresses = addresses

    def address(self, name: str) -> int:
        """Where the function is.  Raises KeyError if the IR does not define it for others to see."""
        return self._addresses[name]

    def __del__(self) -> None:
        # Unloading may enter LLVM: that is left to the next compilation, whatever thread the collector runs in.
        try:  # noqa: SIM105 - `suppress` may be gone already
            _graveyard.append(self._owner)
        except (AttributeError, NameError, TypeError):  # the interpreter is going down
            pass


_graveyard: deque[Any] = deque()


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor that code is made for.  vector_bytes: the width of its vector registers, 64, 32 or 16."""

    name: str
    avx2: bool
    fma: bool
    avx512f: bool
    vector_bytes: int


class _Llvm:
    """llvmlite, set up for this machine."""

    def __init__(self) -> None:
        self.binding: Any = importlib.import_module("llvmlite.binding")
        llvm = self.binding
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        llvm.check_jit_execution()
        features = llvm.get_host_cpu_features()
        triple = llvm.get_process_triple()
        self.target = llvm.Target.from_triple(triple)
        self.host = Host(
            cpu_name=llvm.get_host_cpu_name(),
            flags=features.flatten(),
            features=dict(features),
            triple=triple,
            version=f"{importlib.import_module('llvmlite').__version__} {llvm.llvm_version_info} {triple}",
        )
        self.count = 0

    @cached_property
    def jit(self) -> Any:
        """LLVM's own linker, for what `loader` does not load."""
        return self.binding.create_lljit_compiler(self.machine(3))

    def machine(self, opt: int) -> Any:
        return self.target.create_target_machine(
            cpu=self.host.cpu_name,
            features=self.host.flags,
            opt=opt,
            reloc="pic",
            codemodel="jitdefault",
            jit=True,
        )

    def object_code(self, ir: str, opt: int, passes: bool) -> bytes:
        llvm = self.binding
        module = llvm.parse_assembly(ir)
        machine = self.machine(opt)
        module.triple = self.host.triple
        module.data_layout = str(machine.target_data)
        module.verify()
        if passes:
            tuning = llvm.create_pipeline_tuning_options(speed_level=opt)
            tuning.loop_vectorization = tuning.slp_vectorization = opt > 1
            builder = llvm.create_pass_builder(machine, tuning)
            builder.getModulePassManager().run(module, builder)
        code: bytes = machine.emit_object(module)
        return code

    def load(self, code: bytes, names: list[str]) -> Library:
        builder = self.binding.JITLibraryBuilder().add_object_img(code).add_current_process()
        for name in names:
            builder.export_symbol(name)
        self.count += 1
        tracker = builder.link(self.jit, f"dataflow_workbench_{self.count}")
        return Library(tracker, {name: int(tracker[name]) for name in names})


@lru_cache(maxsize=1)
def _llvm() -> _Llvm:
    try:
        return _Llvm()
    except (ImportError, OSError, RuntimeError) as error:
        raise UnavailableError(
            None,
            None,
            f"There is no native compiler: {type(error).__name__}: {error}",
            hint="Install llvmlite (pip install llvmlite), or go on with generated Python, which needs none.",
        ) from error


@lru_cache(maxsize=1)
def _host() -> Host:
    """What code is made for: as remembered, or as LLVM says.  Raises UnavailableError without llvmlite."""
    disk = _disk_cache()
    found = hosts.recall(disk)
    if found is None:
        found = _llvm().host
        hosts.remember(disk, found)
    return found


# Whether it works.

_TRIAL = """
define void @trial(ptr %args, i64 %begin, i64 %end) nounwind {
  %a = load ptr, ptr %args
  %last = sub i64 %end, 1
  %p = getelementptr double, ptr %a, i64 %begin
  %q = getelementptr double, ptr %a, i64 %last
  %x = load double, ptr %p
  %y = load double, ptr %q
  %product = fmul double %x, %x
  %sum = fsub double %product, %y
  store double %sum, ptr %q
  ret void
}
"""


@lru_cache(maxsize=1)
def why_not() -> str:
    """Why there is no native code here, or "" if there is."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "native code is made for 64-bit processors only"
    try:
        address = compile(_TRIAL).address("trial")
    except Exception as error:  # whatever is wrong with the compiler, plans go on without it
        return (
            getattr(error, "message", "") or f"the compiler's trial failed: {type(error).__name__}: {error}"
        )
    # x*x - y with y the rounded square: 0, but not where the product was not rounded.
    x = 1.0 + 2.0**-30
    numbers = (ctypes.c_double * 3)(x, 7.0, x * x)
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(numbers))
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
    function(ctypes.addressof(arguments), 0, 3)
    if list(numbers) != [x, 7.0, 0.0]:
        return f"the compiler's trial gave {list(numbers)} instead of {[x, 7.0, 0.0]}"
    return ""


def available() -> bool:
    """Whether llvmlite is there and a first small function computes what it should."""
    return not why_not()


@lru_cache(maxsize=1)
def cpu() -> Cpu:
    """This processor, as LLVM sees it; one without any extension where there is no LLVM."""
    try:
        with _lock:
            host = _host()
    except UnavailableError:
        return Cpu("", avx2=False, fma=False, avx512f=False, vector_bytes=16)
    has = host.features.get
    arm = host.triple.startswith(("aarch64", "arm64"))
    avx2, avx512 = bool(has("avx2")), bool(has("avx512f"))
    fma = bool(has("fma")) or arm
    return Cpu(host.cpu_name, avx2, fma, avx512, 64 if avx512 else 32 if avx2 or has("avx") else 16)


# Compiling.

_libraries: OrderedDict[str, Library] = OrderedDict()
_disk: DiskCache | None = None


def compile(ir: str, opt: int = 3, *, passes: bool = True) -> Library:
    """The functions that the LLVM IR text defines (those not internal), as machine code for this processor.

    opt: how much LLVM optimizes, 0 to 3.  passes: whether it works over the IR before it chooses instructions, which takes about
    as long as all the rest; IR that is written as it should be does not need it.  Code once made is found again in memory, and by
    later processes on disk (`engine.native.cache`).  Safe to call from any thread.  Raises UnavailableError without llvmlite, and
    InternalError if LLVM rejects the text or it calls a function that is not there.
    """
    with _lock:
        host = _host()
        known = f"{ir}\0{opt}\0{passes}\0{host.cpu_name}\0{host.flags}\0{host.version}"
        key = hashlib.sha256(known.encode()).hexdigest()
        found = _libraries.get(key)
        if found is not None:
            _libraries.move_to_end(key)
            return found
        _graveyard.clear()
        found = _libraries[key] = _made(key, ir, opt, passes)
        while len(_libraries) > _IN_MEMORY:
            _libraries.popitem(last=False)
        return found


def _made(key: str, ir: str, opt: int, passes: bool) -> Library:
    names = _DEFINED.findall(ir)
    disk = _disk_cache()
    code = disk.get(key)
    if code is not None:
        try:
            return _loaded(code, names)
        except RuntimeError:  # written by something that is not quite this LLVM
            pass
    try:
        code = _llvm().object_code(ir, opt, passes)
        library = _loaded(code, names)
    except RuntimeError as error:
        raise InternalError(
            None,
            None,
            f"LLVM does not compile what was generated for {', '.join(names) or 'no function'}: {error}",
            hint="This is a defect of the generator. Plans without native code still run.",
        ) from error
    disk.put(key, code)
    return library


def _loaded(code: bytes, names: list[str]) -> Library:
    try:
        found = loader.load(code, names)
    except loader.Unloadable:
        return _llvm().load(code, names)
    return Library(found.memory, found.addresses)


def _disk_cache() -> DiskCache:
    global _disk
    path = directory()
    if _disk is None or _disk.path != path:
        _disk = DiskCache(path)
    return _disk


def forget() -> None:
    """Forget the libraries in memory that nobody else holds; those on disk stay."""
    with _lock:
        _libraries.clear()
        _graveyard.clear()


# In the background.


class _Background:
    """One daemon thread that works through a queue; started by the first job, and again in a forked child."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.telling = threading.RLock()
        self.fresh()

    def fresh(self) -> None:
        self.wake = threading.Condition(threading.Lock())
        self.thread: threading.Thread | None = None
        self.stopped = False

    def submit(self, future: Future[Any], make: Callable[[], Any]) -> None:
        with self.wake:
            if self.stopped:
                future.cancel()
                return
            self.jobs.append((future, make))
            self._start()
            self.wake.notify()

    def _start(self) -> None:
        if self.thread is None:
            self.thread = threading.Thread(target=self._work, name="native-compiler", daemon=True)
            self.thread.start()

    def _work(self) -> None:
        while True:
            with self.wake:
                while not self.jobs:
                    self.wake.wait()
                if self.stopped:
                    return
                future, make = self.jobs[0]
            # A job stays in the queue until it is done: a child forked meanwhile does it, too.
            if not future.done() and (future.running() or future.set_running_or_notify_cancel()):
                self._do(future, make)
            with self.wake:
                self.jobs.popleft()

    def _do(self, future: Future[Any], make: Callable[[], Any]) -> None:
        try:
            result = make()
        except BaseException as error:
            with self.telling:
                future.set_exception(error)
        else:
            with self.telling:
                future.set_result(result)

    def stop(self) -> None:
        """No more jobs; returns when none is inside of LLVM, and none enters it any more."""
        with self.wake:
            self.stopped = True
            self.wake.notify_all()
        _lock.acquire(timeout=_PATIENCE)

    # Around a fork.  `telling` before `_lock`: who is told of a result may compile.

    def before_fork(self) -> None:
        self.telling.acquire()
        _lock.acquire()
        self.wake.acquire()

    def after_fork_in_parent(self) -> None:
        self.wake.release()
        _lock.release()
        self.telling.release()

    def after_fork_in_child(self) -> None:
        _lock.release()
        self.telling.release()
        stopped = self.stopped
        self.fresh()
        self.stopped = stopped
        if self.jobs and not stopped:
            with self.wake:
                self._start()


_PATIENCE = 10.0  # seconds that the interpreter's end waits for a compilation under way
_background = _Background()
atexit.register(_background.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_background.before_fork,
        after_in_parent=_background.after_fork_in_parent,
        after_in_child=_background.after_fork_in_child,
    )


def in_background(make: Callable[[], T]) -> Future[T]:
    """Run `make` on the compiler's thread, after what was handed in before.

    The future has its result or what it raised; it is cancelled if the interpreter is ending.  The thread does not keep the
    interpreter from ending, and in a forked child another one takes over what was not done.
    """
    future: Future[T] = Future()
    _background.submit(future, make)
    return future
