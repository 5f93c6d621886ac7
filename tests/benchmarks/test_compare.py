"""The comparison with TensorFlow, without TensorFlow: the engine against itself."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


compare = load("benchmarks_compare", BENCHMARKS / "compare.py")
CASES = sorted(path.stem for path in (BENCHMARKS / "cases").glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="module")
def ours() -> Iterator[Any]:
    library = compare.Library("engine", sys.executable, [0])
    yield library
    library.close()


@pytest.mark.parametrize("case", CASES)
def test_every_case_runs(ours: Any, case: str) -> None:
    answer = ours.ask(prepare=case)
    assert len(answer["values"]) >= 1
    compare.agree(case, answer, ours.ask(prepare=case))
    assert ours.seconds(case, 1) > 0


def test_the_engine_is_about_as_fast_as_itself(ours: Any) -> None:
    other = compare.Library("engine", sys.executable, [0])
    row = compare.compare("scalar_feed", "a title", ours, other, rounds=3, batch=0.02)
    other.close()
    assert 0.1 < row.ratio < 10
    low, high = row.quartiles
    assert low <= row.ratio <= high


def test_different_results_are_an_error() -> None:
    with pytest.raises(Exception, match="results differ"):
        compare.agree("a case", {"shape": [2], "values": [1.0, 2.0]}, {"shape": [2], "values": [1.0, 2.1]})


def test_the_table() -> None:
    row = compare.Row("a chain", 0.00002, 0.25, (0.5, 0.2, 0.4))
    assert compare.cells(row) == ("a chain", "20 µs", "250 ms", "0.4", "0.3 – 0.45")


def test_a_library_that_cannot_start_is_an_error() -> None:
    with pytest.raises(Exception, match="the unheard_of process ended"):
        compare.Library("unheard_of", "/bin/false", [0])
