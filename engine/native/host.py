"""What LLVM knows of this machine, remembered on disk: who finds all code there can ask for it without LLVM.

A record is found by all that LLVM's answer depends on: which llvmlite is installed, and what the processor says of itself (its
instruction CPUID and the registers that the system lets programs use), read anew by each process.  So a home directory that
several machines share, or a machine that was exchanged, never gives code for another processor.  Where that cannot be read there
are no records, and LLVM is asked each time.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.native.cache import DiskCache

__all__ = ["Host", "fingerprint", "recall", "remember"]

_SUFFIX = ".host"

# void cpuid(u32 leaf, u32 subleaf, u32 out[4]), for the C calling convention of x86-64 Linux.
_CPUID = bytes.fromhex(
    "53"  # push rbx
    "89f8 89f1 4989d0"  # eax = leaf, ecx = subleaf, r8 = out
    "0fa2"  # cpuid
    "418900 41895804 41894808 4189500c"  # out = eax, ebx, ecx, edx
    "5b c3"  # pop rbx, return
)
# u32 xgetbv(void): which registers the system saves.
_XGETBV = bytes.fromhex("31c9 0f01d0 c3")

_EAX, _EBX, _ECX, _EDX = range(4)
_ALL = (_EAX, _EBX, _ECX, _EDX)
_LEAVES = (
    (0x00000000, 0, (_EBX, _ECX, _EDX)),  # vendor
    (0x00000001, 0, (_EAX, _ECX, _EDX)),  # family and model, features; EBX is another on each core
    (0x00000007, 0, _ALL),
    (0x00000007, 1, _ALL),
    (0x0000000D, 1, (_EAX,)),
    (0x00000014, 0, (_EBX,)),
    (0x00000019, 0, (_EBX,)),
    (0x0000001E, 1, (_EAX,)),
    (0x00000024, 0, (_EBX,)),
    (0x80000001, 0, (_ECX, _EDX)),
    (0x80000008, 0, (_EBX,)),
)
"""(leaf, subleaf, registers): what LLVM looks at (llvm/lib/TargetParser/Host.cpp)."""
_OSXSAVE = 1 << 27  # of leaf 1's ECX: whether there is XGETBV


@dataclass(frozen=True, slots=True)
class Host:
    """What code is made for and by.  flags: the features as LLVM takes them; version: of llvmlite and LLVM, and the triple."""

    cpu_name: str
    flags: str
    features: dict[str, bool]
    triple: str
    version: str


def recall(disk: DiskCache) -> Host | None:
    """What was remembered of this machine, or None."""
    key = fingerprint()
    data = disk.get(key, _SUFFIX) if key else None
    if data is None:
        return None
    try:
        return Host(**json.loads(data))
    except (ValueError, TypeError):  # another version's
        return None


def remember(disk: DiskCache, host: Host) -> None:
    """Keep it for `recall`."""
    if key := fingerprint():
        disk.put(key, json.dumps(asdict(host)).encode(), _SUFFIX)


def fingerprint() -> str:
    """All that LLVM's answer depends on, as hexadecimal digits, or "" where that is not known."""
    compiler = _installed()
    if not compiler or not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return ""
    processor = _processor()
    return hashlib.sha256(f"{compiler}\0{processor}".encode()).hexdigest() if processor else ""


def _installed() -> str:
    """Which llvmlite there is; "" for none, or one that is not made of files."""
    try:
        found = importlib.util.find_spec("llvmlite")
        if found is None or found.origin is None:
            return ""
        binding = Path(found.origin).parent / "binding"
        files = [Path(found.origin), *sorted(binding.glob("*llvmlite.*"))]
        states = [(str(file), file.stat()) for file in files]
    except (ImportError, ValueError, OSError):
        return ""
    if len(states) < 2:
        return ""
    return "\n".join(f"{name} {state.st_size} {state.st_mtime_ns} {state.st_ino}" for name, state in states)


@lru_cache(maxsize=1)
def _processor() -> str:
    from engine.native.loader import load_bytes

    try:
        cpuid, xgetbv = load_bytes(_CPUID), load_bytes(_XGETBV)
    except OSError:  # a system that lets no program make code: then there is no LLVM either
        return ""
    ask = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(cpuid.address)
    words = list(_words(ask))
    features = (ctypes.c_uint32 * 4)()
    ask(1, 0, features)
    saved = ctypes.CFUNCTYPE(ctypes.c_uint32)(xgetbv.address)() if features[_ECX] & _OSXSAVE else 0
    return " ".join(f"{word:x}" for word in (*words, saved))


def _words(ask: Callable[[int, int, Any], None]) -> Iterator[int]:
    out = (ctypes.c_uint32 * 4)()
    last = {}
    for base in (0, 0x80000000):
        ask(base, 0, out)
        last[base] = out[_EAX]
    for leaf, subleaf, registers in _LEAVES:
        if leaf <= last[leaf & 0x80000000]:
            ask(leaf, subleaf, out)
            yield from (out[register] for register in registers)
        else:  # beyond the last leaf a processor may answer anything
            yield 0
