"""The comparison with TensorFlow, without TensorFlow: the engine against itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import compare
import worker
from cases import Case, Prepared, all_cases
from harness import machine, measure, memory, report
from harness.library import Library, LibraryError
from harness.measure import Row

CASES = all_cases()
HEAVY = {"lenet_adam", "vgg"}
CORE = machine.available_cores()[:1]


@pytest.fixture(scope="module")
def ours() -> Iterator[Library]:
    library = Library("engine", sys.executable, CORE)
    yield library
    library.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "RESULTS.md"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in HEAVY)) for name in CASES]
)
def test_every_case_runs(ours: Library, name: str) -> None:
    """Alone, and where it is measured against another case, with the same result as that one."""
    case = CASES[name]
    answer = ours.ask(prepare=name)
    assert answer["shape"][0] == case.checks
    if case.against is not None:
        assert measure.difference(case, answer, ours.ask(prepare=case.against)) is None
    seconds, wall = ours.measure(name, 1)
    assert 0 < seconds <= wall
    ours.ask(forget=name)


def test_what_trains_learns(ours: Library) -> None:
    losses = ours.ask(prepare="mlp_adam_16")["values"][:3]
    assert losses[0] > losses[1] > losses[2]


def test_every_case_but_those_on_graphs_has_counterparts() -> None:
    lacking = {name for name, case in CASES.items() if set(case.counterparts) != {"torch", "jax"}}
    assert lacking == {
        "build_10k",
        "gradients_1000",
        "first_run",
        "first_step",
        "chain_traced",
        "chain_full_trace",
        "mlp_times",
        "two_devices",
        "two_products",
    }
    assert not CASES["build_10k"].runs_on("torch") and CASES["build_10k"].runs_on("tensorflow")
    assert CASES["first_run"].runs_on("jax")


def test_the_engine_against_itself(ours: Library) -> None:
    other = Library("engine", sys.executable, CORE)
    case = CASES["scalar_feed"]
    row = measure.measure(case, {"ours": (ours, case.name), "theirs": (other, case.name)}, budget=0.4)
    other.close()
    ratio, quartiles = row.ratio(), row.quartiles()
    assert ratio is not None and quartiles is not None
    assert 0 < quartiles[0] <= ratio <= quartiles[1]
    assert not row.problems
    assert measure.FEWEST_ROUNDS <= len(row.times["ours"]) <= measure.MOST_ROUNDS


def test_setups_and_what_is_around_a_batch_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def take(seconds: float) -> None:
        nonlocal now
        now += seconds

    made = Prepared(lambda _: take(0.5), setup=lambda: take(20.0))
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: now)
        taken = worker._with_setup(made, 3)
    assert taken == 1.5


class Scripted:
    """A library whose answers are given, and whose calls take the `paces` of their case."""

    def __init__(self, answer: dict[str, Any] | None, pace: float = 1e-3) -> None:
        self.answer, self.pace, self.calls = answer, pace, 0

    def ask(self, **question: Any) -> dict[str, Any]:
        if "prepare" not in question:
            return {}
        if self.answer is None:
            raise LibraryError("ValueError: no such op")
        return self.answer

    def measure(self, _: str, calls: int) -> tuple[float, float]:
        self.calls += calls
        return self.pace, self.pace


ONE = {"shape": [1], "values": [1.0, 1.0]}
TWO = {"shape": [1], "values": [2.0, 2.0]}
PLAIN = Case("plain", "a title", lambda _: None, target=0.5)


def rows_of(**answers: Any) -> Row:
    runners: Any = {who: (Scripted(answer), "plain") for who, answer in answers.items()}
    return measure.measure(PLAIN, runners, 0.1)


def test_different_results_are_a_problem_and_are_not_timed() -> None:
    row = rows_of(ours=TWO, theirs=ONE, torch=ONE)
    assert row.problems == {"ours": "results differ: 2 against 1 (value 0 of 2)"}
    assert row.ratio() is None and row.met() is False
    assert row.seconds("theirs") == 1e-3
    assert report.cells(row, ["torch", "jax"])[1:4] == ("differs", "1 ms", "-")
    assert report.problems([row]) == ["a title: ours: results differ: 2 against 1 (value 0 of 2)"]


def test_a_library_that_fails_leaves_the_others() -> None:
    row = rows_of(ours=ONE, theirs=ONE, torch=None)
    assert row.problems == {"torch": "ValueError: no such op"}
    assert row.ratio() == 1.0 and row.met() is False
    assert report.cells(row, ["torch", "jax"])[-2:] == ("fails", "-")
    row = rows_of(ours=ONE, theirs=None)
    assert row.ratio() is None and row.seconds("ours") == 1e-3


@pytest.mark.parametrize(
    ("mine", "theirs", "differs"),
    [
        ([1.0, 1.0], [1.00005, 1.00005], False),
        ([1.0, 1.0], [1.001, 1.001], True),
        ([float("nan"), 1.0], [1.0, 1.0], True),
    ],
)
def test_the_tolerance(mine: list[float], theirs: list[float], differs: bool) -> None:
    found = measure.difference(PLAIN, {"shape": [1], "values": mine}, {"shape": [1], "values": theirs})
    assert (found is not None) == differs


def test_shapes_are_compared() -> None:
    found = measure.difference(PLAIN, {"shape": [1, 2], "values": []}, {"shape": [1, 3], "values": []})
    assert found == "results differ in shape: [2] against [3]"


def test_slow_cases_get_fewer_rounds() -> None:
    slow, quick = Scripted(ONE, 2.0), Scripted(ONE, 1e-3)
    runners: Any = {"ours": (quick, "plain"), "theirs": (slow, "plain")}
    row = measure.measure(PLAIN, runners, 3.0)
    assert len(row.times["ours"]) == measure.FEWEST_ROUNDS
    assert slow.calls == measure.FEWEST_ROUNDS + 1  # one to learn its pace


def test_a_library_that_dies_under_way_leaves_the_others() -> None:
    class Mortal(Scripted):
        def measure(self, name: str, calls: int) -> tuple[float, float]:
            if self.calls > 50:
                raise LibraryError("the torch process ended with status -11")
            return super().measure(name, calls)

    runners: Any = {"ours": (Scripted(ONE), "plain"), "theirs": (Scripted(ONE), "plain")}
    runners["torch"] = (Mortal(ONE), "plain")
    row = measure.measure(PLAIN, runners, 1.0)
    assert row.problems == {"torch": "the torch process ended with status -11, while it was measured"}
    assert row.ratio() == 1.0 and len(row.times["ours"]) > 10
    assert "torch" not in row.times


def test_a_case_that_fails_leaves_its_process_and_one_that_dies_is_started_anew() -> None:
    library = Library("engine", sys.executable, CORE, quiet=True)
    first = library._process
    assert first is not None
    with pytest.raises(LibraryError, match="KeyError: 'unheard_of'"):
        library.ask(prepare="unheard_of")
    assert library.ask(prepare="scalar_feed")["values"] == [3.0, 3.0]
    assert library._process is first
    first.kill()
    with pytest.raises(LibraryError, match="the engine process ended with status -9"):
        library.ask(prepare="scalar_feed")
    assert library.ask(prepare="scalar_feed")["values"] == [3.0, 3.0]
    library.close()
    library.close()  # does nothing


def test_a_library_that_cannot_start_is_an_error() -> None:
    with pytest.raises(LibraryError, match="the unheard_of process ended"):
        Library("unheard_of", "/bin/false", [0])


def test_foreign_processes_are_ended() -> None:
    with machine.Foreign(2, CORE) as foreign:
        running = [process.pid for process in foreign.processes]
        assert len(running) == 2 and all(process.poll() is None for process in foreign.processes)
    for pid in running:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="stop"), machine.Foreign(1, CORE) as foreign:
        raise RuntimeError("stop")
    assert foreign.processes[0].poll() is not None


def test_foreign_processes_end_by_themselves() -> None:
    subprocess.run([sys.executable, "-c", machine.SPIN, "0.05", ""], check=True, timeout=100)


def test_memory_is_measured_in_fresh_processes() -> None:
    pythons = {"ours": ("engine", sys.executable), "theirs": ("engine", sys.executable)}
    use = memory.measure(CASES["mlp_adam_128"], pythons, CORE, repeats=1)
    assert not use.problems
    ratio = use.ratio()
    assert ratio is not None and 0.5 < ratio < 2
    above, whole = use.bytes["ours"]
    # The weights and their two slots take 3.2 MB.
    assert 3 << 20 < above < whole < 2 << 30
    assert report.memory_cells(use, ["torch"])[-1] == "-"


def test_the_table() -> None:
    row = Row("chain", "a chain", 0.3, {"ours": [2e-5, 2e-5, 2e-5], "theirs": [4e-5, 1e-4, 5e-5]})
    assert report.cells(row, []) == ("a chain", "20 µs", "50 µs", "0.4", "0.3 – 0.45", "0.3", "**no**")
    row.target = 0.4
    assert row.met() is True
    row.times["jax"] = [1e-4, 1e-4, 1e-4]
    assert report.cells(row, ["torch", "jax"])[-2:] == ("-", "100 µs (0.2)")
    assert len(report.headings(["torch", "jax"])) == 9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2e-6, "2 µs"), (1.5e-2, "15 ms"), (0.4004, "400 ms"), (13.27, "13.3 s"), (1234.0, "1234 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_results_keep_notes_and_what_was_not_measured(file: Path) -> None:
    report.write(file, ["machine: a"], {"2 threads": "two", "1 thread": "one"})
    text = file.read_text().replace(report.NOTES, "Seen on a quiet day.\n\n| a | b |")
    file.write_text(text)
    report.write(
        file, ["machine: b"], {"1 thread": "again", "2 threads, 1 foreign process": "busy", "memory": "much"}
    )
    text = file.read_text()
    assert "Seen on a quiet day.\n\n| a | b |" in text
    assert "machine: a" not in text and "one" not in text.split("<!--", 1)[1].replace("begin", "")
    places = [text.index(f"\n{word}\n") for word in ("again", "two", "busy", "much")]
    assert places == sorted(places)
    assert text.index("Seen on") > places[-1]
    report.write(file, ["machine: b"], {})
    assert file.read_text() == text


def test_sections() -> None:
    row = Row("chain", "a chain", 0.3, {"ours": [1.0] * 3, "theirs": [2.0] * 3}, {"jax": "TypeError: no"})
    text = report.timing_section("1 thread", [row], ["jax"], load=0.5, seconds=7)
    assert text.startswith("## 1 thread\n")
    assert "; 3 alternating rounds" in text
    assert "| a chain | 1 s | 2 s | 0.5 | 0.5 – 0.5 | 0.3 | **no** | fails |" in text
    assert text.endswith("- a chain: JAX: TypeError: no")
    use = memory.Use("a net", {"ours": (2 << 20, 50 << 20), "theirs": (4 << 20, 400 << 20)})
    text = report.memory_section([use], [])
    assert "| a net | 2 MiB (50) | 4 MiB (400) | 0.5 | 1 | yes |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unheard_of"], "there is no case 'unheard_of'"),
        (["--markdown", "x.md", "vgg"], "name no cases"),
        (["--threads", "one"], "write it as 1 or 1,2"),
        (["--tf-python", sys.executable, "--threads", "4096", "vgg"], "this process may use"),
    ],
)
def test_what_is_asked_for_wrongly(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(compare.main, arguments)
    assert result.exit_code != 0
    assert message in result.output


def test_the_list() -> None:
    result = CliRunner().invoke(compare.main, ["--list"])
    assert [line.split()[0] for line in result.output.splitlines()] == list(CASES)


def test_the_whole_way(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """The command, with the engine in TensorFlow's place, beside a foreign process."""
    monkeypatch.setitem(compare.LIBRARIES, "theirs", "engine")
    monkeypatch.setattr(compare, "facts_of", lambda versions: [f"{sorted(versions)}"])
    monkeypatch.setattr(compare, "all_cases", lambda: {"scalar_feed": CASES["scalar_feed"]})
    arguments = ["--tf-python", sys.executable, "--seconds", "0.1", "--foreign", "1"]
    result = CliRunner().invoke(compare.main, [*arguments, "--markdown", str(file)])
    assert result.exit_code == 0, result.output
    text = file.read_text()
    assert "## 1 thread, 1 foreign process\n" in text
    assert "['ours', 'theirs']" in text
    assert " | 1.5 | " in text
