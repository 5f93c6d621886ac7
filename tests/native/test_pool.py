"""The native thread pool: every unit once, several callers, nesting, limits, forks, and the interpreter's end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import PATIENCE, wait_until

from engine.native import compiler, pool, pool_code
from engine.native.pool import Pool
from engine.types.errors import InvalidArgumentError

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())

# inc: args[0][i] += 1.  chunks: args[0][begin] = end.  many: args[4] calls of parallel_for(args[1], args[2], args[3], …)
# from native code.  slow: as inc, after as many turns as args[1] says.
FUNCTIONS = """
define void @inc(ptr %args, i64 %begin, i64 %end) {
entry:
  %p = load ptr, ptr %args
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %q = getelementptr i64, ptr %p, i64 %i
  %v = load i64, ptr %q
  %w = add i64 %v, 1
  store i64 %w, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %out
out:
  ret void
}

define void @chunks(ptr %args, i64 %begin, i64 %end) {
  %p = load ptr, ptr %args
  %q = getelementptr i64, ptr %p, i64 %begin
  store i64 %end, ptr %q
  ret void
}

define void @many(ptr %args, i64 %begin, i64 %end) {
entry:
  %parallel = load ptr, ptr %args
  %p1 = getelementptr ptr, ptr %args, i64 1
  %handle = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %args, i64 2
  %f = load ptr, ptr %p2
  %p3 = getelementptr ptr, ptr %args, i64 3
  %inner = load ptr, ptr %p3
  %p4 = getelementptr i64, ptr %args, i64 4
  %count = load i64, ptr %p4
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void %parallel(ptr %handle, ptr %f, ptr %inner, i64 %begin, i64 %end, i64 1)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %out
out:
  ret void
}

define void @slow(ptr %args, i64 %begin, i64 %end) {
entry:
  %p1 = getelementptr i64, ptr %args, i64 1
  %turns = load i64, ptr %p1
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void asm sideeffect "", ""()
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %loop, label %out
out:
  call void @inc(ptr %args, i64 %begin, i64 %end)
  ret void
}
"""


@pytest.fixture(scope="module")
def functions() -> dict[str, int]:
    library = compiler.compile(FUNCTIONS)
    return {name: library.address(name) for name in ("inc", "chunks", "many", "slow")}


@pytest.fixture
def three() -> Iterator[Pool]:
    with Pool(3) as made:
        yield made


class Job:
    """An array of counts, and the arguments for functions that work on it."""

    def __init__(self, size: int, *more: int) -> None:
        self.counts = np.zeros(size, np.int64)
        self.args = np.array([self.counts.ctypes.data, *more], np.int64)

    @property
    def pointer(self) -> int:
        return int(self.args.ctypes.data)


def workers() -> set[str]:
    """The workers that the system knows; one that was joined may still be among them for a moment."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as name:
            if name.read() == "native-pool\n":
                found.add(task)
    return found


def state_of(worker: str) -> tuple[str, int]:
    """What a worker does (S: it sleeps), and for how many ticks it has run."""
    with open(f"/proc/self/task/{worker}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return fields[0], int(fields[11]) + int(fields[12])


needs_workers = pytest.mark.skipif(not pool_code.has_workers(), reason="no workers on this system")


@given(st.integers(1, 5), st.integers(0, 3000), st.integers(0, 3000), st.integers(-1, 900))
def test_every_unit_once(threads: int, a: int, b: int, grain: int) -> None:
    library = compiler.compile(FUNCTIONS)
    begin, end = min(a, b), max(a, b)
    job = Job(3000)
    with Pool(threads) as made:
        made.parallel_for(library.address("inc"), job.pointer, begin, end, grain)
    wanted = np.zeros(3000, np.int64)
    wanted[begin:end] = 1
    np.testing.assert_array_equal(job.counts, wanted)


@given(st.integers(1, 5), st.integers(1, 400), st.integers(1, 90))
def test_no_chunk_is_smaller_than_the_grain(threads: int, n: int, grain: int) -> None:
    library = compiler.compile(FUNCTIONS)
    job = Job(n)
    with Pool(threads) as made:
        made.parallel_for(library.address("chunks"), job.pointer, 0, n, grain)
    begins = np.flatnonzero(job.counts)
    ends = job.counts[begins]
    assert begins[0] == 0 and ends[-1] == n
    np.testing.assert_array_equal(begins[1:], ends[:-1])
    sizes = ends - begins
    # The last chunk has what remains, and there is one at least.
    assert all(sizes[:-1] >= grain) and len(sizes) <= max(1, 4 * threads)
    assert sizes.max() - sizes[:-1].min(initial=n) <= 0


def test_nothing_to_do(three: Pool, functions: dict[str, int]) -> None:
    job = Job(4)
    for begin, end in ((0, 0), (3, 3), (3, 1), (-1, -5)):
        three.parallel_for(functions["inc"], job.pointer, begin, end)
    assert not job.counts.any()


def test_many_jobs_from_native_code(three: Pool, functions: dict[str, int]) -> None:
    inner = Job(64)
    outer = Job(1)
    outer.args = np.array([three.address, three.handle, functions["inc"], inner.pointer, 30_000], np.int64)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(functions["many"])
    call(outer.pointer, 0, 64)
    assert (inner.counts == 30_000).all()


def test_nested_calls_work_alone(three: Pool, functions: dict[str, int]) -> None:
    inner = Job(100)
    outer = Job(1)
    outer.args = np.array([three.address, three.handle, functions["inc"], inner.pointer, 50], np.int64)
    three.parallel_for(functions["many"], outer.pointer, 0, 100, 1)
    assert (inner.counts == 50).all()


def test_callers_at_once_are_all_served(three: Pool, functions: dict[str, int]) -> None:
    jobs = [Job(500, 200) for _ in range(4)]

    def call(job: Job) -> None:
        for _ in range(300):
            three.parallel_for(functions["slow"], job.pointer, 0, 500, 20)

    callers = [threading.Thread(target=call, args=(job,)) for job in jobs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((job.counts == 300).all() for job in jobs)


@needs_workers
def test_workers_start_late_and_end_with_close(functions: dict[str, int]) -> None:
    before = workers()
    made = Pool(4)
    assert not workers() - before and made.threads == 4
    handle = made.handle
    own = workers() - before
    assert len(own) == 3 and made.handle == handle
    assert not workers() - before - own
    made.close()
    made.close()
    wait_until(lambda: not workers() & own)
    assert made.threads == 1
    # Plans that hold the handle go on.
    job = Job(50)
    made.parallel_for(functions["inc"], job.pointer, 0, 50)
    assert (job.counts == 1).all() and not workers() - before


@needs_workers
def test_resize(functions: dict[str, int]) -> None:
    with Pool(2) as made:
        for threads in (2, 5, 1, 3):
            before = workers()
            made.resize(threads)
            job = Job(200)
            made.parallel_for(functions["inc"], job.pointer, 0, 200, 1)
            assert (job.counts == 1).all()
            assert made.threads == threads
            assert len(workers() - before) == threads - 1


@needs_workers
def test_a_limit_holds(functions: dict[str, int]) -> None:
    with Pool(4) as made:
        assert made.limit(0) is made and made.limit(2).threads == 2 and made.limit(9).threads == 4
        for limit in (1, 2, 4):
            # Chunks: four for each thread that may work.
            job = Job(1000)
            made.limit(limit).parallel_for(functions["chunks"], job.pointer, 0, 1000, 1)
            assert np.count_nonzero(job.counts) == (4 * limit if limit > 1 else 1)


def test_what_is_no_number_of_threads() -> None:
    for wrong in (0, -1):
        with pytest.raises(InvalidArgumentError, match="one thread or more"):
            Pool(wrong)
    with Pool(1) as made:
        with pytest.raises(InvalidArgumentError, match="one thread or more"):
            made.limit(-1)
        with pytest.raises(InvalidArgumentError, match="one thread or more"):
            made.resize(0)


def test_the_default_has_a_thread_a_processor() -> None:
    assert pool.default() is pool.default()
    wanted = len(os.sched_getaffinity(0)) if pool_code.has_workers() else 1
    assert pool.default().threads == wanted


def test_without_workers(monkeypatch: pytest.MonkeyPatch, functions: dict[str, int]) -> None:
    monkeypatch.setattr(pool_code, "has_workers", lambda: False)
    alone = Pool(3)
    assert alone.threads == 1
    job = Job(50)
    alone.parallel_for(functions["inc"], job.pointer, 0, 50)
    assert (job.counts == 1).all()
    # The code for systems without futex calls nothing of them.
    assert "syscall" not in pool_code.ir()
    compiler.compile(pool_code.ir()).address("parallel_for")


def run_python(text: str) -> subprocess.CompletedProcess[str]:
    prelude = f"""
import os, sys, threading, time, signal
import numpy as np
from engine.native import compiler, pool
FUNCTIONS = {FUNCTIONS!r}
inc = compiler.compile(FUNCTIONS).address("inc")
slow = compiler.compile(FUNCTIONS).address("slow")
counts = np.zeros(1000, np.int64)
args = np.array([counts.ctypes.data, 2000], np.int64)
"""
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(text)],
        timeout=PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_workers
def test_a_forked_child_has_workers_of_its_own() -> None:
    result = run_python(
        """
        made = pool.Pool(3)
        handle = made.handle
        made.parallel_for(inc, args.ctypes.data, 0, 1000, 1)
        child = os.fork()
        if child == 0:
            assert len(os.listdir("/proc/self/task")) == 1
            # Native code that holds the handle works alone at first.
            pool._code().parallel_for(handle, inc, args.ctypes.data, 0, 1000, 1)
            assert (counts == 2).all()
            for _ in range(100):
                made.parallel_for(inc, args.ctypes.data, 0, 1000, 1)
            ok = (counts == 102).all() and len(os.listdir("/proc/self/task")) == 3
            made.close()
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        made.parallel_for(inc, args.ctypes.data, 0, 1000, 1)
        assert (counts == 2).all()
        # Another thread is about to start the workers.
        late = pool.Pool(2)
        with late._shared.lock:
            child = os.fork()
            if child == 0:
                late.parallel_for(inc, args.ctypes.data, 0, 1000, 1)
                os._exit(0 if (counts == 3).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("done")
        """
    )
    assert result.stdout == "done\n" and result.returncode == 0, result.stderr


@needs_workers
def test_a_fork_while_others_work() -> None:
    result = run_python(
        """
        made = pool.Pool(3)
        ends = False
        def work():
            mine = np.zeros(1000, np.int64); its = np.array([mine.ctypes.data, 2000], np.int64)
            while not ends:
                made.parallel_for(slow, its.ctypes.data, 0, 1000, 10)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for each in threads: each.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                counts[:] = 0
                for _ in range(20):
                    made.parallel_for(inc, args.ctypes.data, 0, 1000, 1)
                os._exit(0 if (counts == 20).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
        ends = True
        for each in threads: each.join()
        print("done")
        """
    )
    assert result.stdout == "done\n" and result.returncode == 0, result.stderr


@pytest.mark.parametrize("ending", ["", "made.close()\n        pool.default().handle"])
def test_the_interpreter_ends(ending: str) -> None:
    result = run_python(
        f"""
        made = pool.Pool(3)
        made.parallel_for(inc, args.ctypes.data, 0, 1000, 1)
        print(counts.sum(), flush=True)
        {ending}
        """
    )
    assert (result.stdout, result.returncode) == ("1000\n", 0), result.stderr


def test_the_interpreter_ends_while_a_daemon_thread_works() -> None:
    result = run_python(
        """
        made = pool.Pool(3)
        begun = threading.Event()
        def work():
            while True:
                made.parallel_for(slow, args.ctypes.data, 0, 1000, 10)
                begun.set()
        threading.Thread(target=work, daemon=True).start()
        assert begun.wait(50)
        print("done", flush=True)
        """
    )
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr


@needs_workers
def test_signals_are_for_pythons_threads() -> None:
    with Pool(3) as made:
        assert made.handle
        blocked = []
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/status") as status:
                mask = next(line for line in status if line.startswith("SigBlk"))
            blocked.append(bool(int(mask.split()[1], 16) >> (signal.SIGINT - 1) & 1))
        assert sum(blocked) >= 2
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT}


@needs_workers
def test_idle_workers_sleep(functions: dict[str, int]) -> None:
    before = workers()
    with Pool(4) as made:
        job = Job(1000)
        made.parallel_for(functions["inc"], job.pointer, 0, 1000, 1)
        own = workers() - before
        assert len(own) == 3
        wait_until(lambda: all(state_of(each)[0] == "S" for each in own))
        asleep = {each: state_of(each) for each in own}
        time.sleep(0.1)
        assert {each: state_of(each) for each in own} == asleep
