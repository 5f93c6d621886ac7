"""Tables, for the terminal and for RESULTS.md, of which each run rewrites the sections that it measured."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.measure import Row
from harness.memory import TARGET as MEMORY_TARGET
from harness.memory import WHAT, Use

FOREIGN_TARGET = 1.5
"""With something else on the machine, no case may take more than this times TensorFlow's time."""

RIVALS = {"torch": "PyTorch", "jax": "JAX"}
NOTES = "Written by hand; kept when the tables are written anew."


def duration(seconds: float) -> str:
    """Seconds with a unit that suits."""
    for limit, scale, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{figure(seconds * scale)} {unit}"
    return f"{figure(seconds)} s"


def figure(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "**no**"


def headings(rivals: Sequence[str]) -> tuple[str, ...]:
    """Of the table of times; `rivals` of "torch" and "jax"."""
    columns = ("case", "ours", "TensorFlow", "ours ÷ TF", "quartiles", "target", "met")
    return columns + tuple(f"{RIVALS[who]} (ours ÷ it)" for who in rivals)


def cells(row: Row, rivals: Sequence[str]) -> tuple[str, ...]:
    """A row of the table of times."""

    def took(who: str) -> str:
        seconds = row.seconds(who)
        if seconds is not None:
            return duration(seconds)
        if who not in row.problems:
            return "-"
        return "differs" if "differ" in row.problems[who] else "fails"

    ratio, quartiles = row.ratio(), row.quartiles()
    found = [
        row.title,
        took("ours"),
        took("theirs"),
        "-" if ratio is None else figure(ratio),
        "-" if quartiles is None else " – ".join(map(figure, quartiles)),
        "" if row.target is None else f"{row.target:g}",
        _verdict(row.met()),
    ]
    for who in rivals:
        times = row.ratio(who)
        found.append(took(who) + ("" if times is None else f" ({figure(times)})"))
    return tuple(found)


def problems(rows: Sequence[Row | Use]) -> list[str]:
    """A sentence for each case that somebody could not run, or computed otherwise."""
    named = {"ours": "ours", "theirs": "TensorFlow", **RIVALS}
    return [f"{row.title}: {named[who]}: {text}" for row in rows for who, text in row.problems.items()]


def memory_headings(rivals: Sequence[str]) -> tuple[str, ...]:
    """Of the table of memory."""
    return ("case", "ours", "TensorFlow", "ours ÷ TF", "target", "met", *(RIVALS[who] for who in rivals))


def memory_cells(use: Use, rivals: Sequence[str]) -> tuple[str, ...]:
    """A row of the table of memory, in MiB."""

    def took(who: str) -> str:
        if who not in use.bytes:
            return "fails" if who in use.problems else "-"
        above, whole = use.bytes[who]
        return f"{figure(above / (1 << 20))} MiB ({figure(whole / (1 << 20))})"

    ratio = use.ratio()
    met = _verdict(ratio is not None and ratio <= MEMORY_TARGET)
    middle = ("-" if ratio is None else figure(ratio), f"{MEMORY_TARGET:g}", met)
    return (use.title, took("ours"), took("theirs"), *middle, *(took(who) for who in rivals))


def key(threads: int, foreign: int) -> str:
    """The name of a section of times."""
    one = f"{threads} thread{'s' if threads > 1 else ''}"
    return one + (f", {foreign} foreign process{'es' if foreign > 1 else ''}" if foreign else "")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    line = "|---" + "|--:" * (len(headings) - 1) + "|"
    return ["| " + " | ".join(headings) + " |", line, *("| " + " | ".join(row) + " |" for row in rows)]


def section(
    title: str,
    about: Sequence[str],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    troubles: Sequence[str],
) -> str:
    """One section of RESULTS.md."""
    lines = [f"## {title[0].upper()}{title[1:]}", "", *about, "", *_table(headings, rows)]
    if troubles:
        lines += ["", "Not measured:", "", *(f"- {trouble}" for trouble in troubles)]
    return "\n".join(lines)


def timing_section(
    title: str, rows: Sequence[Row], rivals: Sequence[str], *, load: float, seconds: float
) -> str:
    """The section of RESULTS.md that has times."""
    rounds = [len(row.times["ours"]) for row in rows if row.times.get("ours")]
    spread = " to ".join(map(str, sorted({min(rounds), max(rounds)}))) if rounds else "no"
    date = datetime.date.today().isoformat()
    about = f"{date}; {spread} alternating rounds, about {seconds:g} s a case; load before it {load:.2f}."
    return section(title, [about], headings(rivals), [cells(row, rivals) for row in rows], problems(rows))


def memory_section(uses: Sequence[Use], rivals: Sequence[str]) -> str:
    """The section of RESULTS.md that has memory."""
    about = [f"{datetime.date.today().isoformat()}. {WHAT}"]
    rows = [memory_cells(use, rivals) for use in uses]
    return section("memory of training", about, memory_headings(rivals), rows, problems(uses))


def _order(name: str) -> tuple[int, int, str]:
    found = re.match(r"(\d+) threads?(?:, (\d+) foreign)?", name)
    if found:
        return 0, int(found[2] or 0), f"{int(found[1]):4}"
    return (2 if name == "notes" else 1), 0, name


def _sections(text: str) -> dict[str, str]:
    found = re.finditer(
        r"<!-- begin: (?P<name>.+?) -->\n(?P<text>.*?)\n<!-- end: (?P=name) -->", text, re.DOTALL
    )
    return {match["name"]: match["text"] for match in found}


def write(path: Path, facts: Sequence[str], sections: Mapping[str, str]) -> None:
    """Write the file at `path`: a header with `facts`, the `sections`, and of those it had before the ones not among them.

    What stands between the markers of a section stays as it is until that section is measured again; that of the notes always.
    """
    before = _sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    after = {"notes": f"## Notes\n\n{NOTES}", **before, **sections}
    lines = [
        "# Ours against TensorFlow",
        "",
        "Written by `python benchmarks/compare.py --markdown benchmarks/RESULTS.md`; the cases are in `benchmarks/cases/`, and",
        "`benchmarks/README.md` tells what is measured. Ratios are medians over rounds that alternate between the libraries:",
        "smaller is better.",
        "",
        *(f"- {fact}" for fact in facts),
    ]
    for name in sorted(after, key=_order):
        lines += ["", f"<!-- begin: {name} -->", after[name], f"<!-- end: {name} -->"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
