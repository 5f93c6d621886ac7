"""The debugger's commands that ask: why, why not, who wrote, origin, diff, needs, slice.  Each is a row of `COMMANDS`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.runtime.program import Item
from workbench.debugger import looking, reasons
from workbench.debugger.command import Answer, Command, CommandError
from workbench.debugger.naming import (
    item_of,
    iteration_number,
    latest_of,
    node_name,
    output_of,
    row_number,
    split,
)
from workbench.debugger.questions import dead, differences, here, origin, waiting, wanted, writers
from workbench.debugger.questions.differences import Pick
from workbench.debugger.questions.reasoning import Reasoning
from workbench.debugger.stepping import Entry, Stepping

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger

Ask = Callable[["Debugger", str], Reasoning]


def ask(debugger: Debugger, line: str) -> Reasoning:
    """The answer to a question as data: ``ask(debugger, "why not while/add")``.

    The first words are those of the commands.  Raises CommandError for what is no question, or cannot be answered.
    """
    words = line.split()
    for length in (2, 1):
        found = QUESTIONS.get(" ".join(words[:length]))
        if found is not None:
            return found(debugger, " ".join(words[length:]))
    raise CommandError(f"'{line}' is no question; questions are: {', '.join(QUESTIONS)}")


# Questions.


def _why_not(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    name, _, at = rest.partition(" ")
    if not name:
        raise CommandError("why does which NODE not execute? why not NODE; of one iteration: why not NODE @3")
    number = iteration_number(at)
    if at and number is None:
        raise CommandError(f"'{at}' is no iteration: give its number, as in why not {name} @3")
    return waiting.why_not(stepping, node_name(name), number)


def _why_dead(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    asked = reasons.asked_of(stepping, node_name(rest))
    found = dead.why_dead(stepping, asked)
    debugger.asked = asked
    return found


def _why_here(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    return here.why_here(stepping, _item(stepping, rest).name)


def _why(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    name = node_name(rest)
    if name and name not in stepping.step.program.by_name:
        entry = _row(stepping, name)
        if entry is None:
            return waiting.why_not(stepping, name)  # which says what became of it
        name = entry.activation.name
    return wanted.why(stepping, _item(stepping, name).name)


def _who_wrote(debugger: Debugger, rest: str) -> Reasoning:
    if not rest:
        raise CommandError("who wrote which variable? who wrote NAME (info resources lists them)")
    return writers.who_wrote(looking.stepping_of(debugger), rest, debugger.past)


def _origin(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    kinds = {"nan": origin.NAN, "inf": origin.INF, "any": origin.ANY}
    first, _, more = rest.partition(" ")
    kind = kinds.get(first.lower())
    tensor = more.strip() if kind is not None else rest
    if not tensor:
        return origin.origin(stepping, kind or origin.ANY)
    entry, output = _value(stepping, tensor)
    written = origin.written_last(stepping, entry, output or 0)
    if written is not None:  # a variable: what it holds is what was written last
        entry, output = written, None
    return origin.origin(stepping, kind or origin.ANY, entry, output)


def _slice(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    words = rest.split()
    control = "values" not in words
    words = [word for word in words if word != "values"]
    return origin.backward_slice(stepping, _value(stepping, " ".join(words))[0], control=control)


def _needs(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    entry, output = _value(stepping, rest)
    return wanted.needs(stepping, entry, output)


def _diff(debugger: Debugger, rest: str) -> Reasoning:
    stepping = looking.stepping_of(debugger)
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise CommandError(f"{error}: quote a directory with blanks in it") from None
    if not words:
        raise CommandError(f"diff of which tensor? {_DIFF}")
    tensor, *picks = words
    if len(picks) > 2:
        raise CommandError(f"diff compares two values: {_DIFF}")
    return differences.diff(
        stepping, debugger.past, _tensor_name(tensor), *[_pick(word, tensor) for word in picks]
    )


_DIFF = "diff TENSOR [A [B]], A and B being ROW, @ITERATION, step=N, or run=DIRECTORY[@STEP]"


def _pick(word: str, tensor: str) -> Pick:
    found = re.fullmatch(r"(#?|@|step=)(\d{1,9})", word)
    if found is not None:
        number = int(found[2])
        if found[1] == "@":
            return Pick(iteration=number)
        return Pick(step=number) if found[1] == "step=" else Pick(row=number)
    found = re.fullmatch(r"run=(.+?)(?:@(\d{1,9}))?", word)
    if found is not None:
        return Pick(run=found[1], step=int(found[2]) if found[2] else -1)
    raise CommandError(f"'{word}' is no value of {tensor}: {_DIFF}")


# Arguments.


def _tensor_name(text: str) -> str:
    """``NODE:OUTPUT`` of what may be of another step, or of none, so that it cannot be looked up; raises CommandError."""
    name, slot = split(text)
    if not name or (slot and not (slot.isascii() and slot.isdecimal() and len(slot) < 7)):
        raise CommandError(f"'{text}' is not a tensor: NODE or NODE:OUTPUT")
    return f"{name}:{slot or 0}"


def _item(stepping: Stepping, rest: str) -> Item:
    """The node that ``NODE`` or nothing (the next one) means."""
    if rest:
        return item_of(stepping, node_name(rest))
    if stepping.next is None:
        raise CommandError("nothing is next; give a NODE")
    return stepping.next.item


def _row(stepping: Stepping, text: str) -> Entry | None:
    """The execution that ``12`` or ``#12`` means; None for anything else.  Raises CommandError if the history has not got it."""
    number = row_number(text)
    if number is None:
        return None
    entry = stepping.entry_at(number)
    if entry is None:
        raise CommandError(f"the history has no execution #{number}")
    return entry


def _value(stepping: Stepping, rest: str) -> tuple[Entry, int | None]:
    """The execution, and the output (None: any), that ``TENSOR``, ``NODE``, ``#ROW`` or nothing (the last) means."""
    if not rest:
        if stepping.last is None:
            raise CommandError("nothing has executed yet")
        return stepping.last, None
    if split(rest)[0] not in stepping.step.program.by_name:
        entry = _row(stepping, rest)
        if entry is not None:
            return entry, None
    item, slot, chosen = output_of(stepping, rest)
    return latest_of(stepping, item), slot if chosen else None


QUESTIONS: dict[str, Ask] = {
    "why not": _why_not,
    "why dead": _why_dead,
    "why here": _why_here,
    "why": _why,
    "who wrote": _who_wrote,
    "origin": _origin,
    "diff": _diff,
    "needs": _needs,
    "slice": _slice,
}


# Commands.


def _asks(question: str) -> Callable[[Debugger, str], Answer]:
    def run(debugger: Debugger, rest: str) -> Answer:
        return Answer(True, QUESTIONS[question](debugger, rest).text())

    return run


_WHY = ("not", "dead", "here")


def why(debugger: Debugger, rest: str) -> Answer:
    """``why``, ``why not``, ``why dead``, ``why here``."""
    stepping = looking.stepping_of(debugger)
    word, _, more = rest.partition(" ")
    if word in _WHY and (more or word not in stepping.step.program.by_name):
        if word == "dead":
            return reasons.why_dead(debugger, node_name(more.strip()))
        return Answer(True, QUESTIONS[f"why {word}"](debugger, more.strip()).text())
    node = node_name(rest)
    if reasons.is_dead(stepping, node):
        told = reasons.why_dead(debugger, node)
        name = debugger.asked.name if debugger.asked is not None else node
        return Answer(True, f"{told.text}\n  {wanted.why(stepping, name).answer}")
    return Answer(True, _why(debugger, rest).text())


def _who(debugger: Debugger, rest: str) -> Answer:
    word, _, name = rest.partition(" ")
    if word != "wrote":
        raise CommandError("who wrote NAME says who changed a variable")
    return Answer(True, _who_wrote(debugger, name.strip()).text())


def _watch(debugger: Debugger, rest: str) -> Answer:
    past = debugger.past
    if not rest:
        return Answer(
            True, "\n".join(past.watched) or "nothing is kept on request; keep TENSOR keeps it of each step"
        )
    tensor = _tensor_name(rest)
    if tensor in past.watched:
        del past.watched[tensor]
        return Answer(True, f"{tensor} is kept no more")
    if debugger.stepping is not None:
        item_of(debugger.stepping, node_name(tensor))
    past.watched[tensor] = None
    return Answer(True, f"{tensor} is kept from this step on, up to 64 MiB a step")


COMMANDS = (
    Command(
        "why",
        (),
        "[not | dead | here] [NODE | ROW]",
        "say which fetches and targets need NODE, or why it is dead. The shortest path to each; of a NODE whose latest "
        "execution was dead, what why dead says. Without a NODE, the next one. why not NODE [@ITERATION] says what keeps it "
        "from executing, back to the root causes; why dead NODE, the Switch that killed its token, the way from there, the "
        "Merge that stopped it; why here NODE, why it is on its device.",
        why,
    ),
    Command(
        "who",
        (),
        "wrote NAME",
        "say who wrote a variable, stack or array. Each change in this step with what it was before and after, who has read "
        "it since, and what an earlier step left in it.",
        _who,
    ),
    Command(
        "origin",
        (),
        "[nan | inf | any] [TENSOR | ROW]",
        "say where a NaN or an infinity came from. The first operation that made one out of finite inputs, and the way from "
        "there, through loops, gradients, variables, stacks and arrays. Of TENSOR's latest value, or of the latest execution "
        "that gave one.",
        _asks("origin"),
    ),
    Command(
        "diff",
        (),
        "TENSOR [A [B]]",
        "say how two values of TENSOR differ. The first index, the greatest difference, how many elements. A and B are ROW, "
        "@ITERATION, step=N (an earlier step of this session) or run=DIRECTORY[@STEP] (a recorded run); without B, from A to "
        "the latest; without both, the latest two.",
        _asks("diff"),
    ),
    Command(
        "keep",
        (),
        "[TENSOR]",
        "keep TENSOR's value of each step, for diff. Given again, no more. What is fetched or small "
        "is kept anyway. Without a TENSOR, list what is kept so.",
        _watch,
        anytime=True,
    ),
    Command(
        "needs",
        (),
        "[TENSOR | ROW]",
        "say who still needs a value. Nodes that have not executed with it, resources that hold it. Without an argument, what "
        "executed last.",
        _asks("needs"),
    ),
    Command(
        "slice",
        (),
        "[TENSOR | ROW] [values]",
        "list the executions that a value descends from. With values, without those that only came before by a control "
        "edge.",
        _asks("slice"),
    ),
)
