"""How many examples random searches try: few in every run, as many as ever with ``pytest --deep``."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

deep = False  # tests/conftest.py says so before it collects the tests


def examples(count: int, deeper: int = 5, **more: Any) -> settings:
    """Settings for `count` examples, and `deeper` times as many in a deep search."""
    return settings(max_examples=count * (deeper if deep else 1), **more)
