"""What goes wrong with run directories."""

from __future__ import annotations


class RunError(Exception):
    """A run directory cannot be made, opened or read; the message is one sentence that says which, and why."""


class ColumnsError(ValueError):
    """Bytes that are not a batch of columns: another format, cut short, or damaged."""
