"""What every test gets: settings for hypothesis that do not depend on the machine's speed."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
import searches
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from running import Clock

# Two busy cores: how long one example takes says nothing.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True, print_blob=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deep", action="store_true", help="also run the deep searches: longer ones of others")


def pytest_configure(config: pytest.Config) -> None:
    # The examples are the same in every run, so that a red run is about the change.  New ones are for those who look for them.
    searches.deep = config.getoption("deep")
    if searches.deep or config.getoption("hypothesis_seed", None) is not None:
        settings.load_profile("new")
    # Whoever starts the tests in the background may ignore Ctrl-C; tests of interrupts send it to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "deep: a longer variant of a search; left out without --deep")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting leaves, and it leaves much, stays to the end: the garbage collector need not look at it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deep searches only when they are asked for: what they try more of, a shorter variant tries in every run."""
    if config.getoption("deep"):
        return
    left_out = [item for item in items if item.get_closest_marker("deep")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("deep")]


@pytest.fixture(autouse=True)
def _kernels_keep_their_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel that any test runs must give the dtypes and shapes that its op declares."""
    from engine.runtime import step
    from engine.runtime.failures import check_outputs

    monkeypatch.setattr(step, "checker", check_outputs)


@pytest.fixture(autouse=True)
def _passes_keep_their_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage that any pass makes in any test goes through the graph checker."""
    from engine.passes import check, pipeline

    monkeypatch.setattr(pipeline, "checker", check.check)


@pytest.fixture
def as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass runs in this test but pruning: its steps are those of the graph as the test wrote it."""
    from engine.passes import pipeline

    monkeypatch.setattr(pipeline, "PASSES", ())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all steps of this test, which only the test moves."""
    from running import Clock

    made = Clock()
    made.install(monkeypatch)
    return made


@pytest.fixture(autouse=True)
def _fresh_default_graph() -> Iterator[None]:
    """No test sees another's nodes."""
    from engine.graph.graph import Graph

    with Graph().as_default():
        yield
