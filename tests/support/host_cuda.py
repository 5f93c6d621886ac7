"""CuPy's `RawKernel` on the host: kernels are compiled as C++ and run over NumPy's arrays.

`HostCuda` is NumPy with a `RawKernel`.  What has barriers in it runs with a thread for each of CUDA's; the rest one index after
the other.  That shows arithmetic, indexing and barriers, and what the launching code hands over; not a GPU's own rounding, its
memory model or its speed.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

COMPILER = shutil.which("g++") or shutil.which("clang++")
THREADS = 8  # in a block, whatever the launch says: the kernels are compiled for as many

_PRELUDE = r"""
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <utility>
struct Index { unsigned x; };
static thread_local Index threadIdx;
static Index blockIdx, blockDim;
#define __global__
#define __device__ static
#define __shared__ static
#define HALF_BY_HAND _Float16
using namespace std;
"""
_THREADS = r"""
#include <pthread.h>
static pthread_barrier_t gate;
#define __syncthreads() pthread_barrier_wait(&gate)
template <class Body> struct Work { Body* body; unsigned thread; };
template <class Body> static void* work(void* given) {
    auto mine = (Work<Body>*)given;
    threadIdx.x = mine->thread;
    (*mine->body)();
    return nullptr;
}
template <class Body> static void block(unsigned threads, Body body) {
    pthread_t running[64];
    Work<Body> given[64];
    pthread_barrier_init(&gate, nullptr, threads);
    for (unsigned thread = 0; thread < threads; thread++) {
        given[thread] = {&body, thread};
        pthread_create(&running[thread], nullptr, work<Body>, &given[thread]);
    }
    for (unsigned thread = 0; thread < threads; thread++) pthread_join(running[thread], nullptr);
    pthread_barrier_destroy(&gate);
}
"""
_ONE_BY_ONE = r"""
template <class Body> static void block(unsigned threads, Body body) {
    for (unsigned thread = 0; thread < threads; thread++) { threadIdx.x = thread; body(); }
}
"""
_LAUNCHER = r"""
template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<A>*)arguments[I]...);
}
template <class... A> static void launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments) {
    blockDim.x = threads;
    for (unsigned at = 0; at < blocks; at++) {
        blockIdx.x = at;
        block(threads, [=] { call(kernel, arguments, std::index_sequence_for<A...>{}); });
    }
}
"""
_NAMES = re.compile(r'extern "C" __global__ void (\w+)\(')
_COUNT = "template <class... A> static int count(void (*)(A...)) { return sizeof...(A); }\n"


def _entry(name: str, number: int) -> str:
    """What ctypes calls: the kernel's number of arguments, and a launch of it."""
    return (
        f'extern "C" int count{number}() {{ return count({name}); }}\n'
        f'extern "C" void run{number}(unsigned blocks, unsigned threads, void** arguments) '
        f"{{ launch({name}, blocks, threads, arguments); }}\n"
    )


class HostCuda:
    """NumPy, and kernels in CUDA; `launches` are the names of those that ran."""

    def __init__(self, folder: Path) -> None:
        if COMPILER is None:
            pytest.skip("no C++ compiler")
        self.folder = folder
        self.launches: list[str] = []
        self.prepared: dict[tuple[str, str], tuple[Any, int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def prepare(self, codes: Sequence[str], name: str, shared: str) -> None:
        """Compile kernels of one name and without options, all at once: that takes little longer than one does.

        `shared` is text that each of them has in it.
        """
        text = [_PRELUDE, _ONE_BY_ONE, _COUNT, _LAUNCHER, shared]
        for i, code in enumerate(codes):
            assert "__syncthreads" not in code
            inside = code.replace(shared, "").replace(
                'extern "C" ', ""
            )  # in C two kernels of one name would be the same
            text.append(f"namespace k{i} {{\n{inside}\n}}\n{_entry(f'k{i}::{name}', i)}")
        library = self.build("".join(text), ["-O0"])
        for i, code in enumerate(codes):
            self.prepared[code, name] = library[f"run{i}"], library[f"count{i}"]()

    def build(self, text: str, flags: Sequence[str]) -> Any:
        assert COMPILER is not None
        stem = hashlib.sha1(f"{text}{flags}".encode()).hexdigest()[:16]
        source, target = self.folder / f"{stem}.cpp", self.folder / f"{stem}.so"
        if not target.exists():
            source.write_text(text, encoding="utf-8")
            command = [COMPILER, "-std=c++20", "-ffp-contract=off", "-pthread", "-shared", "-fPIC", *flags]
            done = subprocess.run(
                [*command, str(source), "-o", str(target)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[:3000]
        return ctypes.CDLL(str(target))

    def RawKernel(self, code: str, name: str, options: Sequence[str] = ()) -> Any:
        return _Kernel(self, code, name, tuple(options))


class _Kernel:
    def __init__(self, xp: HostCuda, code: str, name: str, options: Sequence[str]) -> None:
        self.xp, self.name = xp, name
        self.barriers = "__syncthreads" in code
        found = xp.prepared.get((code, name))
        if found is None:
            names = _NAMES.findall(code)  # all at once, as they are in one text
            entries = "".join(_entry(each, i) for i, each in enumerate(names))
            text = (
                _PRELUDE + (_THREADS if self.barriers else _ONE_BY_ONE) + code + _COUNT + _LAUNCHER + entries
            )
            # A block of 256 threads would be 256 threads here.
            defines = [
                f"-DTHREADS={THREADS}" if each.startswith("-DTHREADS=") else each
                for each in options
                if each.startswith("-D")
            ]
            library = xp.build(text, ["-O1", *defines])
            number = names.index(name)
            found = library[f"run{number}"], library[f"count{number}"]()
        self.run, self.count = found

    def __call__(self, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]) -> None:
        assert len(arguments) == self.count, f"{self.name} takes {self.count} arguments, got {len(arguments)}"
        kept: list[Any] = []
        for each in arguments:
            if isinstance(each, np.ndarray):
                kept.append(ctypes.c_void_p(each.ctypes.data))
            else:
                assert isinstance(each, np.generic), f"{each!r} has no size of its own"
                kept.append(np.atleast_1d(each))
        addresses = (ctypes.c_void_p * len(kept))()
        for i, held in enumerate(kept):
            addresses[i] = held.ctypes.data if isinstance(held, np.ndarray) else ctypes.addressof(held)
        self.xp.launches.append(self.name)
        self.run(grid[0], THREADS if self.barriers else block[0], addresses)


def nvrtc(code: str, names: Sequence[str], options: Sequence[str]) -> None:
    """Compile kernels for compute capability 9.0; skips the test where CuPy or NVIDIA's compiler is missing."""
    pytest.importorskip("cupy")
    from cupy.cuda import compiler

    try:
        program = compiler._NVRTCProgram(code, "kernels.cu", method="cubin")
        cubin, _ = program.compile(("-arch=sm_90", "-ftz=true", *options))  # CuPy adds the second
    except Exception as error:
        if type(error).__name__ != "DynamicLibNotFoundError":
            raise
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc-cu12, and its folder in LD_LIBRARY_PATH")
    assert [name for name in names if name.encode() not in bytes(cubin)] == []
