"""Expressions over tensors, made safe: `b loop/* if abs(x).max() > 1e3`, `log x.mean()`, `p var("w") * 2`, `set x = [1, 2.5]`.

What there is: numbers, lists, comparisons, `and`, `or`, `not`, arithmetic, indexing and slicing, tuples, strings, names, and a
table of functions, methods and attributes.  `parsing` makes a checked tree of a text, `evaluating` works it out; nothing is ever
evaluated as Python, and time and memory are bounded.  A `Dialect` says what there is in one use of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from workbench.debugger.expressions.evaluating import MAX_ELEMENTS, Evaluation, Scope
from workbench.debugger.expressions.parsing import CONDITION, INPUTS, OUTPUTS, PRINTED, VALUE, Dialect, parse
from workbench.debugger.expressions.tree import AbsentError, ExpressionError

__all__ = [
    "CONDITION",
    "MAX_ELEMENTS",
    "PRINTED",
    "VALUE",
    "AbsentError",
    "Dialect",
    "Expression",
    "ExpressionError",
    "Given",
    "Scope",
    "evaluate",
    "parts",
]


class Expression:
    """An expression that has been read; raises ExpressionError for one that is not in the language.

    text: without what is around it.  names: those in it, `var` and `tensor` if they are called.  variables, tensors: what these
    are called with.  `outputs` and `inputs` say whether it is about what a node gives, and what it is given.
    """

    def __init__(self, text: str, dialect: Dialect = CONDITION) -> None:
        parsed = parse(text, dialect)
        self.text = parsed.text
        self.names = frozenset(parsed.names)
        self.variables = frozenset(parsed.variables)
        self.tensors = frozenset(parsed.tensors)
        self._tree = parsed.tree
        numbered = {name.rstrip("0123456789") for name in self.names if name[-1:].isdigit()}
        self.outputs = bool(self.names & OUTPUTS) or "out" in numbered
        self.inputs = bool(self.names & INPUTS) or "in" in numbered

    def value(self, scope: Scope) -> Any:
        """What it comes to: a number, NumPy array, string, or a tuple or list of those.

        Raises ExpressionError, and AbsentError for what is not there.
        """
        return Evaluation(self.text, scope).value(self._tree)

    def holds(self, scope: Scope) -> bool:
        """Whether it is true.  Raises as `value` does, and for an array of more than one element."""
        return Evaluation(self.text, scope).holds(self._tree)


class Given:
    """A scope of some names; and of what the functions in `look` find by a name in quotes: ``var("w")``."""

    def __init__(self, names: Mapping[str, Any], look: Mapping[str, Callable[[str], Any]]) -> None:
        self._names = names
        self._look = look

    def name(self, name: str) -> Any:
        """See `Scope`."""
        if name not in self._names:
            raise AbsentError(f"there is no '{name}' yet")
        return self._names[name]

    def variable(self, name: str) -> Any:
        """See `Scope`."""
        return self._found("var", name)

    def tensor(self, name: str) -> Any:
        """See `Scope`."""
        return self._found("tensor", name)

    def _found(self, kind: str, name: str) -> Any:
        if kind not in self._look:
            raise AbsentError(f'{kind}("{name}") cannot be looked up here')
        return self._look[kind](name)


def evaluate(
    text: str, names: Mapping[str, Any] | None = None, look: Mapping[str, Callable[[str], Any]] | None = None
) -> Any:
    """The value of `text`, which may use `names`; and what the functions in `look` find by a name in quotes: ``var("w")``.

    Raises ExpressionError for what is no value, saying where, and what `look` raises.
    """
    return Expression(text, VALUE).value(Given(names or {}, look or {}))


def parts(text: str, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`text` cut at the `words` that stand by themselves outside of brackets and quotes.

    Gives ("", what comes first), then (word, what follows it) for each.

    A word that an opening bracket follows at once is a function's name.
    """
    depth, quote, start, word = 0, "", 0, ""
    at = 0
    while at < len(text):
        character = text[at]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and (at == 0 or text[at - 1].isspace()):
            for each in words:
                end = at + len(each)
                if text.startswith(each, at) and (end == len(text) or text[end].isspace()):
                    yield word, text[start:at].strip()
                    word, start = each, end
                    at = end - 1
                    break
        at += 1
    yield word, text[start:].strip()
