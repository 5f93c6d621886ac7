"""Loading of relocatable object files into memory, without LLVM.

A process that finds all its machine code on disk needs no compiler, and LLVM's library alone takes more memory than most models.
What LLVM writes for us is simple: ELF for x86-64, in its large code model, so that any address can be reached.  Everything else
(other formats and processors, thread-local variables, constructors) raises `Unloadable`, and LLVM's own linker takes it.

Sections that are only read and the table of addresses share pages with the code; what is written has pages of its own.  Tables
for unwinding are left out: no exception passes through kernels.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import struct
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Loaded", "Memory", "Unloadable", "load", "load_bytes"]

_HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")

_ELF64_LITTLE = (b"\x7fELF", 2, 1)
_RELOCATABLE, _X86_64 = 1, 62  # kinds of file; processors
_PROGBITS, _SYMTAB, _RELA, _NOBITS, _REL, _UNWIND = 1, 2, 4, 8, 9, 0x70000001  # kinds of section
_WRITE, _ALLOC, _TLS = 1, 2, 0x400  # flags of sections
_TAKEN = re.compile(
    rb"\.l?(text|rodata|data|bss)(\.|$)"
)  # names of sections; those of the large code model have an l
_UNDEFINED, _ABSOLUTE, _RESERVED = 0, 0xFFF1, 0xFF00  # sections that symbols are in
_LOCAL, _WEAK = 0, 2  # who sees a symbol


class Unloadable(Exception):
    """Says what this file has that is not loaded here."""


class Memory:
    """Machine code in pages of its own (a fork has a copy), given back to the system with this object.

    `size` bytes from `address` on.  Raises OSError where the system does not allow it.
    """

    __slots__ = ("address", "size")

    def __init__(self, size: int) -> None:
        libc = _libc()
        self.size = 0
        access = mmap.PROT_READ | mmap.PROT_WRITE
        found = libc.mmap(None, size, access, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if found in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap")
        self.address: int = found
        self.size = size

    def fill(self, image: bytes | bytearray, executable: int) -> None:
        """Put `image` there; the first `executable` bytes, whole pages, can be run then, and not be written any more."""
        ctypes.memmove(self.address, bytes(image), len(image))
        if _libc().mprotect(self.address, executable, mmap.PROT_READ | mmap.PROT_EXEC):
            raise OSError(ctypes.get_errno(), "mprotect")

    def __del__(self) -> None:
        # When the interpreter ends, threads that it does not wait for may still be in here: the system frees it then.
        try:
            if self.size and not sys.is_finalizing():
                _libc().munmap(self.address, self.size)
        except (AttributeError, TypeError):  # modules are gone already
            pass


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


@dataclass(frozen=True, slots=True)
class Loaded:
    """Code in memory for as long as `memory` is held; `addresses` of the functions asked for."""

    memory: Memory
    addresses: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Section:
    name: int
    kind: int
    flags: int
    _address: int
    at: int
    size: int
    link: int
    info: int
    align: int
    entry: int


@dataclass(frozen=True, slots=True)
class _Place:
    """What a relocation is computed from: the symbol's address, the addend, the place itself, the table of addresses, and the
    symbol's row in it.
    """

    symbol: int
    addend: int
    place: int
    table: int
    row: int


# Number → (how it is written, its value); the System V ABI for x86-64, table 4.10.
_RELOCATIONS: dict[int, tuple[struct.Struct, Callable[[_Place], int]]] = {
    1: (struct.Struct("<Q"), lambda p: (p.symbol + p.addend) & 0xFFFFFFFFFFFFFFFF),  # 64
    2: (struct.Struct("<i"), lambda p: p.symbol + p.addend - p.place),  # PC32
    4: (struct.Struct("<i"), lambda p: p.symbol + p.addend - p.place),  # PLT32
    24: (struct.Struct("<q"), lambda p: p.symbol + p.addend - p.place),  # PC64
    25: (struct.Struct("<q"), lambda p: p.symbol + p.addend - p.table),  # GOTOFF64
    27: (struct.Struct("<q"), lambda p: p.row + p.addend - p.table),  # GOT64
    29: (struct.Struct("<q"), lambda p: p.table + p.addend - p.place),  # GOTPC64
}
_THROUGH_TABLE = frozenset({27})
_WITHOUT_ADDRESS = frozenset({27, 29})


@lru_cache(maxsize=256)
def _outside(name: str) -> int:
    """The address of a function of the process: the C library's, libm's, Python's."""
    try:
        found = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError) as error:
        raise Unloadable(f"{name} is not there") from error
    if not found:
        raise Unloadable(f"{name} is not there")
    return found


def load(code: bytes, names: Collection[str]) -> Loaded:
    """Load an object file; `names` are the functions whose addresses are wanted.

    Raises Unloadable where this loader cannot, and for a file that is not well-formed.
    """
    try:
        return _File(code).load(names)
    except (struct.error, IndexError, ValueError, OverflowError, MemoryError, OSError) as error:
        raise Unloadable(f"{type(error).__name__}: {error}") from error


class _File:
    """One object file, parsed."""

    def __init__(self, code: bytes) -> None:
        if not sys.platform.startswith("linux"):
            raise Unloadable("not Linux")
        magic, bits, order, _, _, kind, machine, _, _, _, at, _, _, _, _, size, count, names = (
            _HEADER.unpack_from(code)
        )
        if (magic, bits, order) != _ELF64_LITTLE or (kind, machine) != (_RELOCATABLE, _X86_64):
            raise Unloadable("not a relocatable ELF file for x86-64")
        self.code = code
        self.sections = [_Section(*_SECTION.unpack_from(code, at + i * size)) for i in range(count)]
        self.names = self._strings(self.sections[names])
        tables = [each for each in self.sections if each.kind == _SYMTAB]
        self.strings = b""
        self.symbols: list[tuple[int, int, int, int, int, int]] = []
        for table in tables:
            self.strings = self._strings(self.sections[table.link])
            self.symbols = list(_SYMBOL.iter_unpack(code[table.at : table.at + table.size]))
        if len(tables) != 1:
            raise Unloadable("no table of symbols, or several")

    def load(self, names: Collection[str]) -> Loaded:
        """Lay it out, link it, and make it executable."""
        offsets, table, rows, code_end, end = self._layout()
        memory = Memory(end)
        base, image = memory.address, bytearray(end)
        for i, offset in offsets.items():
            section = self.sections[i]
            if section.kind != _NOBITS:
                image[offset : offset + section.size] = self.code[section.at : section.at + section.size]
        for symbol, row in rows.items():
            struct.pack_into("<Q", image, row, self._address(symbol, base, offsets))
        for i, at, number, symbol, addend in self._relocations(offsets):
            form, value = _RELOCATIONS[number]
            target = 0 if number in _WITHOUT_ADDRESS else self._address(symbol, base, offsets)
            place = offsets[i] + at
            found = _Place(target, addend, base + place, base + table, base + rows.get(symbol, 0))
            form.pack_into(image, place, value(found))
        memory.fill(image, code_end)
        return Loaded(memory, self._exported(names, base, offsets))

    def _layout(self) -> tuple[dict[int, int], int, dict[int, int], int, int]:
        """Offsets by section; of the table of addresses, and of its rows by symbol; the ends of the code and of everything."""
        offsets: dict[int, int] = {}
        end = 0
        taken = [(i, each) for i, each in enumerate(self.sections) if self._is_taken(each)]
        for i, section in taken:
            if not section.flags & _WRITE:
                end = _aligned(end, section.align)
                offsets[i], end = end, end + section.size
        table = end = _aligned(end, 8)
        rows: dict[int, int] = {}
        inside = offsets.keys() | {i for i, _ in taken}
        for _, _, number, symbol, _ in self._relocations(inside):
            if number in _THROUGH_TABLE and symbol not in rows:
                rows[symbol], end = end, end + 8
        code_end = end = _aligned(max(end, 1), mmap.PAGESIZE)
        for i, section in taken:
            if section.flags & _WRITE:
                end = _aligned(end, section.align)
                offsets[i], end = end, end + section.size
        return offsets, table, rows, code_end, _aligned(end, mmap.PAGESIZE)

    def _strings(self, section: _Section) -> bytes:
        return self.code[section.at : section.at + section.size]

    def _is_taken(self, section: _Section) -> bool:
        if not section.flags & _ALLOC or section.kind == _UNWIND:
            return False
        name = self.names[section.name : self.names.index(b"\0", section.name)]
        if (
            section.kind not in (_PROGBITS, _NOBITS)
            or section.flags & _TLS
            or section.align > mmap.PAGESIZE
            or not (_TAKEN.match(name) or not section.size)
        ):
            raise Unloadable(f"a section {name!r} of kind {section.kind}, flags {section.flags:#x}")
        if section.kind != _NOBITS and section.at + section.size > len(self.code):
            raise Unloadable("a section that ends behind the file's end")
        return section.size > 0

    def _relocations(self, inside: Collection[int]) -> list[tuple[int, int, int, int, int]]:
        """(section, where in it, number, symbol, addend) of all that are in sections of `inside`."""
        found = []
        for section in self.sections:
            if section.kind == _REL and section.info in inside:
                raise Unloadable("relocations without addends")
            if section.kind != _RELA or section.info not in inside:
                continue
            for at, info, addend in _RELOCATION.iter_unpack(
                self.code[section.at : section.at + section.size]
            ):
                number = info & 0xFFFFFFFF
                if number not in _RELOCATIONS:
                    raise Unloadable(f"a relocation of kind {number}")
                if at + _RELOCATIONS[number][0].size > self.sections[section.info].size:
                    raise Unloadable("a relocation outside of its section")
                found.append((section.info, at, number, info >> 32, addend))
        return found

    def _name(self, start: int) -> str:
        return self.strings[start : self.strings.index(b"\0", start)].decode()

    def _address(self, symbol: int, base: int, offsets: dict[int, int]) -> int:
        name, info, _, section, value, _ = self.symbols[symbol]
        if section == _UNDEFINED:
            if info >> 4 == _WEAK:
                raise Unloadable(f"{self._name(name)} need not be there")
            return _outside(self._name(name))
        if section == _ABSOLUTE:
            return value
        if section >= _RESERVED or section not in offsets:
            raise Unloadable(f"a symbol in section {section:#x}")
        return base + offsets[section] + value

    def _exported(self, names: Collection[str], base: int, offsets: dict[int, int]) -> dict[str, int]:
        found = {}
        for i, (name, info, _, section, _, _) in enumerate(self.symbols):
            if info >> 4 != _LOCAL and section != _UNDEFINED and (text := self._name(name)) in names:
                found[text] = self._address(i, base, offsets)
        if missing := set(names) - found.keys():
            raise Unloadable(f"it has no {', '.join(sorted(missing))}")
        return found


def _aligned(offset: int, to: int) -> int:
    return -(-offset // max(to, 1)) * max(to, 1)


def load_bytes(code: bytes) -> Memory:
    """Machine code that needs no linking.  Raises OSError."""
    memory = Memory(_aligned(len(code), mmap.PAGESIZE))
    memory.fill(code, memory.size)
    return memory
