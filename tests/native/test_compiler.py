"""Native code: compiling, finding it again in memory and on disk, in the background, across forks and at the end."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.native import compiler
from engine.native.cache import DiskCache
from engine.types.errors import InternalError

PATIENCE = 100  # seconds: nothing takes so long, unless something is broken
pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())

MULTIPLY = """
define internal double @times(double %x) noinline {{
  %y = fmul double %x, {factor}
  ret double %y
}}
define void @f(ptr %args, i64 %begin, i64 %end) nounwind {{
entry:
  %a = load ptr, ptr %args
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %p = getelementptr double, ptr %a, i64 %i
  %x = load double, ptr %p
  %y = call double @times(double %x)
  store double %y, ptr %p
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def source(factor: float) -> str:
    return MULTIPLY.format(factor=float(factor))


def call(address: int, arrays: list[np.ndarray[Any, Any]], begin: int, end: int) -> None:
    pointers = (ctypes.c_void_p * len(arrays))(*(each.ctypes.data for each in arrays))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)(
        ctypes.addressof(pointers), begin, end
    )


def check(library: compiler.Library, factor: float) -> None:
    x = np.arange(5, dtype=np.float64)
    call(library.address("f"), [x], 1, 4)
    np.testing.assert_array_equal(x, [0, factor, 2 * factor, 3 * factor, 4])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_NATIVE_CACHE", raising=False)
    compiler.forget()
    return tmp_path / "dataflow-workbench" / "native" / "1"


def test_compiles_and_finds_again(cache: Path) -> None:
    library = compiler.compile(source(3))
    check(library, 3)
    assert compiler.compile(source(3)) is library
    assert compiler.compile(source(4)) is not library
    assert len(list(cache.glob("*.o"))) == 2
    with pytest.raises(KeyError):
        library.address("times")


def test_loads_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.compile(source(5))
    compiler.forget()
    monkeypatch.setattr(compiler._Llvm, "object_code", lambda *_: pytest.fail("compiled again"))
    check(compiler.compile(source(5)), 5)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])]
)
def test_damaged_files_are_made_again(cache: Path, damage: Any) -> None:
    compiler.compile(source(6))
    (file,) = cache.glob("*.o")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    compiler.forget()
    check(compiler.compile(source(6)), 6)
    assert file.read_bytes() == whole


def test_without_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    check(compiler.compile(source(7)), 7)


def test_switched_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_NATIVE_CACHE", "0")
    check(compiler.compile(source(8)), 8)
    assert not cache.exists()


def test_a_directory_of_others_is_not_trusted(cache: Path) -> None:
    compiler.compile(source(9))
    cache.chmod(0o777)
    disk = DiskCache(cache)
    disk.put("ab", b"code")
    assert disk.get("ab") is None
    assert not (cache / "ab.o").exists()


def test_the_oldest_go(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "few", most_bytes=1000)
    for i in range(200):
        disk.put(f"{i:04x}", bytes(300))
        if i < 60:
            os.utime(tmp_path / "few" / f"{i:04x}.o", (i, i))
    disk._trim()
    left = sorted(path.name for path in (tmp_path / "few").iterdir())
    assert len(left) == 2
    assert "0000.o" not in left


@pytest.mark.parametrize("text", ["nonsense", "define void @f() { ret i32 1 }"])
def test_bad_text_raises(text: str) -> None:
    with pytest.raises(InternalError, match="LLVM does not compile"):
        compiler.compile(text)


def test_missing_function_raises() -> None:
    text = "declare void @nowhere_to_be_found()\ndefine void @f() {\n call void @nowhere_to_be_found()\n ret void\n}"
    with pytest.raises(InternalError):
        compiler.compile(text)
    check(compiler.compile(source(11)), 11)


def test_products_and_sums_round_twice() -> None:
    text = """
define void @f(ptr %args, i64 %begin, i64 %end) {
  %a = load ptr, ptr %args
  %x = load double, ptr %a
  %q = getelementptr double, ptr %a, i64 1
  %y = load double, ptr %q
  %p = fmul double %x, %x
  %s = fadd double %p, %y
  store double %s, ptr %a
  ret void
}"""
    x = 1 + 2.0**-30
    values = np.array([x, -(x * x)])
    call(compiler.compile(text).address("f"), [values], 0, 1)
    assert values[0] == 0.0


def test_libm_is_found() -> None:
    text = """
declare double @tgamma(double)
define void @f(ptr %args, i64 %begin, i64 %end) {
  %a = load ptr, ptr %args
  %x = load double, ptr %a
  %y = call double @tgamma(double %x)
  store double %y, ptr %a
  ret void
}"""
    values = np.array([6.0])
    call(compiler.compile(text).address("f"), [values], 0, 1)
    assert values[0] == 120.0


def test_cpu() -> None:
    found = compiler.cpu()
    assert found.name
    assert found.vector_bytes in (16, 32, 64)
    assert found.vector_bytes == 64 or not found.avx512f


def test_in_background() -> None:
    futures = [compiler.in_background(lambda i=i: compiler.compile(source(20 + i))) for i in range(4)]
    failing = compiler.in_background(lambda: compiler.compile("nonsense"))
    for i, future in enumerate(futures):
        check(future.result(PATIENCE), 20 + i)
    with pytest.raises(InternalError):
        failing.result(PATIENCE)


def test_many_threads() -> None:
    wrong: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for j in range(5):
                check(compiler.compile(source(100 + (i + j) % 6)), 100 + (i + j) % 6)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong


def test_unloads_what_nobody_holds() -> None:
    for i in range(20):
        check(compiler.compile(source(200 + i)), 200 + i)
        compiler.forget()
    check(compiler.compile(source(199)), 199)


def run_script(text: str) -> str:
    prefix = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    found = subprocess.run(
        [sys.executable, "-c", prefix + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_importing_does_not_import_llvmlite() -> None:
    assert run_script("import engine.native.compiler; print('llvmlite' in sys.modules)") == "False"


@pytest.mark.parametrize("jobs", [1, 30])
def test_the_interpreter_ends_while_it_compiles(jobs: int) -> None:
    run_script(
        f"""
        from engine.native import compiler
        from test_compiler import source
        import time
        for i in range({jobs}):
            compiler.in_background(lambda i=i: compiler.compile(source(i)))
        time.sleep(0.05 if {jobs} > 1 else 0)
        """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_goes_on() -> None:
    out = run_script(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        from engine.native import compiler
        from test_compiler import source, check
        for attempt in range(3):
            futures = [compiler.in_background(lambda i=i: compiler.compile(source(attempt * 10 + i))) for i in range(6)]
            child = os.fork()
            if not child:
                for i, future in enumerate(futures):
                    check(future.result(timeout=90), attempt * 10 + i)
                check(compiler.in_background(lambda: compiler.compile(source(999))).result(timeout=90), 999)
                sys.stdout.flush()
                os._exit(7)
            for i, future in enumerate(futures):
                check(future.result(timeout=90), attempt * 10 + i)
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status))
        """
    )
    assert out.split() == ["7", "7", "7"]


def test_processes_at_once(cache: Path) -> None:
    text = "from engine.native import compiler\nfrom test_compiler import source, check\n"
    text += "for i in range(8): check(compiler.compile(source(i)), i)\n"
    prefix = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    running = [subprocess.Popen([sys.executable, "-c", prefix + text]) for _ in range(2)]
    assert [each.wait(PATIENCE) for each in running] == [0, 0]
    assert not list(cache.glob(".tmp-*"))
