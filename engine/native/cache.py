"""Machine code kept on disk from one process to the next.

One file a piece of code, named after a key that says everything it depends on.  A file is written beside its place and moved
there, so that processes may write at once; it starts with a checksum, so that a truncated or damaged one is only a miss.  Where
there is no directory that is ours alone and can be written, there is no cache: it holds code that we run.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_MAGIC = b"DWNATIV1"
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size
_SUFFIX = ".o"
VERSION = "1"  # of the directory: the form of what is kept
MOST_BYTES = 128 << 20  # of all files together; beyond, the oldest go
_TRIM_EVERY = 64  # writes of one process


def directory() -> Path | None:
    """Where code is kept, or None: ``$XDG_CACHE_HOME`` or ``~/.cache``, and below; none with ``WORKBENCH_NATIVE_CACHE=0``."""
    if os.environ.get("WORKBENCH_NATIVE_CACHE", "1") == "0":
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        return None
    return root / "dataflow-workbench" / "native" / VERSION


class DiskCache:
    """The files of one directory.  No method raises: what cannot be read is missing, what cannot be written is not kept."""

    def __init__(self, path: Path | None, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self.most_bytes = most_bytes
        self._writes = 0
        self._trusted: bool | None = None if path is not None else False

    def get(self, key: str, suffix: str = _SUFFIX) -> bytes | None:
        """What was kept under `key` (hexadecimal), or None.  suffix: of the file, which says what kind of thing it is."""
        if not self._ours():
            return None
        assert self.path is not None
        file = self.path / (key + suffix)
        try:
            data = file.read_bytes()
        except OSError:
            return None
        payload = data[_HEADER:]
        if data[:_HEADER] != _MAGIC + hashlib.sha256(payload).digest():
            return None
        with suppress(OSError):
            os.utime(file)  # what is used is not old
        return payload

    def put(self, key: str, payload: bytes, suffix: str = _SUFFIX) -> None:
        """Keep `payload` under `key` and `suffix`."""
        if not self._ours(make=True):
            return
        assert self.path is not None
        try:
            handle, name = tempfile.mkstemp(prefix=".tmp-", dir=self.path)
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
            os.replace(name, self.path / (key + suffix))
        except OSError:
            with suppress(OSError):
                os.unlink(name)
            return
        if self._writes % _TRIM_EVERY == 0:
            self._trim()
        self._writes += 1

    def _ours(self, make: bool = False) -> bool:
        """Whether the directory is there, belongs to this user, and nobody else can write to it."""
        if self._trusted is False:
            return False
        assert self.path is not None
        try:
            if make:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.stat()
        except OSError:
            return False
        if self._trusted is None and hasattr(os, "getuid"):
            alone = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            self._trusted = alone
            return alone
        return True

    def _trim(self) -> None:
        """Remove the files used longest ago until the rest fits."""
        assert self.path is not None
        files = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        files.append((status.st_mtime_ns, status.st_size, entry.path))
        except OSError:
            return
        total = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if total <= self.most_bytes:
                return
            try:
                os.unlink(name)
            except OSError:
                continue
            total -= size
