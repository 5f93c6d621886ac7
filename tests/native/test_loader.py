"""Object files loaded without LLVM, against LLVM's own linker; and processes that find all code on disk."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import PATIENCE

from engine.native import compiler, host, loader
from engine.native.cache import DiskCache

pytestmark = [
    pytest.mark.skipif(not compiler.available(), reason=compiler.why_not()),
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or platform.machine() != "x86_64",
        reason="LLVM loads what it compiles here",
    ),
]

# Constants of several sizes and vectors of them, a table of jumps, a table that is written, functions of the C library and of
# libm, near and internal functions, and a pointer among the data.
MODULE = """
@count = internal global i64 0
@rows = internal global [4 x double] [double 1.5, double -2.0, double 0.25, double 1024.0]
@where = internal constant ptr @rows
@text = internal constant [5 x i8] c"12345"
declare double @exp(double)
declare double @fmod(double, double)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare i64 @strlen(ptr)

define internal double @chosen(i64 %which, double %x) noinline {
  switch i64 %which, label %other [
    i64 0, label %zero
    i64 1, label %one
    i64 2, label %two
    i64 3, label %three
    i64 4, label %four
  ]
zero:
  %a = fmul double %x, 3.125
  ret double %a
one:
  %b = call double @exp(double %x)
  ret double %b
two:
  %c = call double @fmod(double %x, double 0.7)
  ret double %c
three:
  %rows = load ptr, ptr @where
  %p3 = getelementptr double, ptr %rows, i64 3
  %d = load double, ptr %p3
  ret double %d
four:
  %p = getelementptr double, ptr @rows, i64 1
  %before = load double, ptr %p
  %e = fadd double %before, %x
  store double %e, ptr %p
  ret double %e
other:
  ret double 0x3FF123456789ABCD
}

define void @f(ptr %args, i64 %begin, i64 %end) {
entry:
  %in = load ptr, ptr %args
  %q = getelementptr ptr, ptr %args, i64 1
  %out = load ptr, ptr %q
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %p = getelementptr double, ptr %in, i64 %i
  %x = load double, ptr %p
  %which = urem i64 %i, 6
  %y = call double @chosen(i64 %which, double %x)
  %r = getelementptr double, ptr %out, i64 %i
  store double %y, ptr %r
  %old = load i64, ptr @count
  %new = add i64 %old, 1
  store i64 %new, ptr @count
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}

define i64 @counted() {
  %n = load i64, ptr @count
  ret i64 %n
}

define i64 @length(ptr %args) {
  %room = alloca [6 x i8]
  store [6 x i8] zeroinitializer, ptr %room
  call void @llvm.memcpy.p0.p0.i64(ptr %room, ptr @text, i64 5, i1 false)
  %n = call i64 @strlen(ptr %room)
  ret i64 %n
}

define <8 x float> @eight(<8 x float> %x) {
  %y = fmul <8 x float> %x, <float 1.0, float 2.0, float 3.0, float 4.0, float 5.0, float 6.0, float 7.0, float 8.0>
  ret <8 x float> %y
}
"""
NAMES = ["f", "counted", "length", "eight"]


def objects(opt: int) -> bytes:
    with compiler._lock:
        return compiler._llvm().object_code(MODULE, opt, passes=opt > 1)


@pytest.fixture(params=[0, 1, 3], scope="module")
def code(request: pytest.FixtureRequest) -> bytes:
    return objects(request.param)


@pytest.fixture(scope="module")
def one() -> bytes:
    return objects(1)


def apply(address: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.zeros_like(x)
    pointers = (ctypes.c_void_p * 2)(x.ctypes.data, out.ctypes.data)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)(
        ctypes.addressof(pointers), 0, len(x)
    )
    return out


def counted(address: int) -> int:
    found: int = ctypes.CFUNCTYPE(ctypes.c_int64)(address)()
    return found


def test_computes_what_llvms_linker_loads(code: bytes) -> None:
    ours = loader.load(code, NAMES)
    with compiler._lock:
        theirs = compiler._llvm().load(code, NAMES)
    for _ in range(2):  # the second time with what the first has written
        x = np.linspace(-3, 3, 60)
        np.testing.assert_array_equal(apply(ours.addresses["f"], x), apply(theirs.address("f"), x))
    assert counted(ours.addresses["counted"]) == counted(theirs.address("counted")) == 120
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(ours.addresses["length"])() == 5


def test_each_loading_has_data_of_its_own(one: bytes) -> None:
    first, second = (loader.load(one, NAMES) for _ in range(2))
    apply(first.addresses["f"], np.ones(6))
    assert (counted(first.addresses["counted"]), counted(second.addresses["counted"])) == (6, 0)


def mappings(address: int) -> list[str]:
    """What /proc/self/maps says of the pages at this address: access, and the rest."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, _, end = line.partition(" ")[0].partition("-")
        if int(begin, 16) <= address < int(end, 16):
            found.append(line.split()[1])
    return found


def test_nothing_is_writable_and_executable_and_memory_is_given_back(one: bytes) -> None:
    held = [loader.load(one, NAMES) for _ in range(20)]
    spans = [(each.memory.address, each.memory.size) for each in held]
    for address, size in spans:
        assert mappings(address) == ["r-xp"]
        assert mappings(address + size - 1) == ["rw-p"]
    del held
    gc.collect()
    # Somebody else may have got the addresses since; hardly all of them, and not to run code there.
    assert sum("r-xp" in mappings(address) for address, _ in spans) < len(spans) // 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_writes_data_of_its_own(one: bytes) -> None:
    loaded = loader.load(one, NAMES)
    child = os.fork()
    if not child:
        apply(loaded.addresses["f"], np.ones(6))
        os._exit(counted(loaded.addresses["counted"]))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 6
    assert counted(loaded.addresses["counted"]) == 0


def test_what_is_left_to_llvm(one: bytes) -> None:
    for text in (b"", b"MZ" + bytes(200), b"\xcf\xfa\xed\xfe" + bytes(200), one[:100]):
        with pytest.raises(loader.Unloadable):
            loader.load(text, NAMES)
    with pytest.raises(loader.Unloadable, match="it has no nowhere"):
        loader.load(one, ["nowhere"])
    for processor in (183, 243):  # aarch64, riscv
        with pytest.raises(loader.Unloadable, match="x86-64"):
            loader.load(one[:18] + processor.to_bytes(2, "little") + one[20:], NAMES)


def test_thread_local_variables_and_constructors_are_left_to_llvm() -> None:
    constructor = """
@ran = internal global i64 0
@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 1, ptr @begin, ptr null }]
define internal void @begin() { store i64 1, ptr @ran ret void }
define i64 @f() { %x = load i64, ptr @ran ret i64 %x }
"""
    local = (
        "@x = thread_local(localexec) global i64 7\ndefine i64 @f() { %x = load i64, ptr @x ret i64 %x }\n"
    )
    for text in (constructor, local):
        with compiler._lock:
            code = compiler._llvm().object_code(text, 1, passes=False)
        with pytest.raises(loader.Unloadable):
            loader.load(code, ["f"])


def test_a_function_that_is_not_there_is_left_to_llvm() -> None:
    text = "declare void @nowhere_to_be_found()\ndefine void @f() {\n call void @nowhere_to_be_found()\n ret void\n}"
    with compiler._lock:
        code = compiler._llvm().object_code(text, 1, passes=False)
    with pytest.raises(loader.Unloadable, match="nowhere_to_be_found"):
        loader.load(code, ["f"])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_nothing_else(one: bytes, data: st.DataObject) -> None:
    """The checksum on disk keeps them away; if one came all the same, loading (which runs nothing) would not go wrong."""
    damaged = bytearray(one[: data.draw(st.integers(0, len(one)))] if data.draw(st.booleans()) else one)
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(loader.Unloadable):
        loader.load(bytes(damaged), NAMES)


# What is known of this machine.


def test_what_is_remembered_is_what_llvm_says(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "cache")
    with compiler._lock:
        found = compiler._llvm().host
    assert host.recall(disk) is None
    host.remember(disk, found)
    assert host.recall(disk) == found == compiler._host()
    (file,) = (tmp_path / "cache").glob("*.host")
    assert file.stem == host.fingerprint()


def test_another_compiler_or_processor_is_not_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskCache(tmp_path / "cache")
    mine = replace(compiler._host(), cpu_name="mine")
    host.remember(disk, mine)
    for what, other in (("_installed", "llvmlite of tomorrow"), ("_processor", "another")):
        with monkeypatch.context() as patch:
            patch.setattr(host, what, lambda other=other: other)
            assert host.recall(disk) is None
            host.remember(disk, replace(mine, cpu_name=what))
            found = host.recall(disk)
            assert found is not None
            assert found.cpu_name == what
    assert host.recall(disk) == mine
    for nothing in ("_installed", "_processor"):
        with monkeypatch.context() as patch:
            patch.setattr(host, nothing, str)
            assert host.fingerprint() == ""
            assert host.recall(disk) is None


@pytest.mark.parametrize("record", [b"", b"[]", b'{"cpu_name": "x"}', b"\xff\xfe", b'"text"'])
def test_a_record_of_another_form_is_none(tmp_path: Path, record: bytes) -> None:
    disk = DiskCache(tmp_path / "cache")
    disk.put(host.fingerprint(), record, ".host")
    assert host.recall(disk) is None


def test_the_processors_words_are_the_same_on_every_core() -> None:
    """A process that moves between two readings must find its record again."""
    found = set()
    cores = os.sched_getaffinity(0)
    try:
        for core in cores:
            os.sched_setaffinity(0, {core})
            host._processor.cache_clear()
            found.add(host._processor())
    finally:
        os.sched_setaffinity(0, cores)
    assert len(found) == 1
    assert "" not in found


def test_no_llvmlite_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert host.fingerprint() == ""


# Processes.

TRAINING = """
import sys
import numpy as np
import engine as tf

random = np.random.default_rng(3)
x = tf.placeholder(tf.float32, [32, 64])
w = tf.Variable(random.normal(size=(64, 32)).astype(np.float32))
_, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y * 0.9 + 0.1)), [0, tf.matmul(x, w)])
loss = tf.reduce_mean(tf.square(y - 0.5))
train = tf.train.AdamOptimizer(0.01).minimize(loss)
fed = random.normal(size=(32, 64)).astype(np.float32)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    losses = [session.run([loss, train], {x: fed})[0] for _ in range(4)]
    native = "tape" in str(session.explain([loss, train], {x: fed}))
    weights = session.run(w)
from engine.native import compiler
compiler.in_background(lambda: None).result(100)  # what was begun there before is on disk by then
print("llvmlite" in sys.modules, native, compiler.available(), compiler.cpu().name)
print([float(each).hex() for each in losses], weights.tobytes().hex()[:200])
"""


def script(text: str, cache: Path) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip().splitlines()


def test_a_process_that_finds_all_code_loads_no_compiler(tmp_path: Path) -> None:
    """Nor is there another result."""
    first = script(TRAINING, tmp_path)
    # What is fused in the background, and when, is a question of time.
    for _ in range(10):
        second = script(TRAINING, tmp_path)
        if second[0].startswith("False"):
            break
    assert first[0].split()[:3] == ["True", "True", "True"]
    assert second[0].split()[:3] == ["False", "True", "True"]
    assert first[0].split()[3] == second[0].split()[3]
    assert first[1] == second[1]


def test_what_is_not_on_disk_is_compiled(tmp_path: Path) -> None:
    text = """
        import sys
        from engine.native import compiler
        print(compiler.available(), "llvmlite" in sys.modules)
        for i in range(2):
            compiler.compile("define i64 @f() { ret i64 %d }" % (i + OFFSET))
            print("llvmlite" in sys.modules)
        """
    assert script(text.replace("OFFSET", "0"), tmp_path) == ["True True", "True", "True"]
    assert script(text.replace("OFFSET", "1"), tmp_path) == ["True False", "False", "True"]


def test_the_interpreter_ends_while_a_thread_is_in_the_code(tmp_path: Path) -> None:
    """Pages are not taken from under it."""
    text = """
        import ctypes, threading, time
        from engine.native import compiler
        loop = '''
        define void @spin(ptr %p) {
          %begun = getelementptr i64, ptr %p, i64 1
          store volatile i64 1, ptr %begun
          br label %again
        again:
          %x = load volatile i64, ptr %p
          %stop = icmp eq i64 %x, 1
          br i1 %stop, label %done, label %again
        done:
          ret void
        }'''
        words = (ctypes.c_int64 * 2)()
        spin = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiler.compile(loop).address("spin"))
        threading.Thread(target=spin, args=(ctypes.addressof(words),), daemon=True).start()
        while not words[1]:
            time.sleep(0.001)
        print("end")
        """
    assert script(text, tmp_path) == ["end"]
