"""Patterns over nodes, and rules that rewrite what they match.

A pattern is a small tree: `op("Mul", any_("x"), number(1))`.  It is matched against the node at which the tree is rooted and
against the nodes that it reads; what it binds to names, the rule's replacement takes.  A rule is a row: name, pattern,
replacement, and one sentence on why the two are the same.  (The style is tinygrad's `PatternMatcher`.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.passes.become import become, become_constant, kept_attrs, reads_switch, waits
from engine.passes.facts import Facts
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode


@dataclass(frozen=True, slots=True)
class Pattern:
    """What an edge must be.

    `types`: the op types of its producer (None: anything).  `inputs`: patterns of the producer's inputs (None: anything), in any
    order if `swaps`.  `name`: what to call the edge.  `test`: a further condition.  `alone`: nobody else reads the producer or
    waits for it.
    """

    types: frozenset[str] | None = None
    inputs: tuple[Pattern, ...] | None = None
    name: str = ""
    swaps: bool = False
    test: Callable[[Facts, Edge], bool] | None = None
    alone: bool = False

    def matches(
        self, draft: Draft, facts: Facts, edge: Edge, bound: dict[str, Edge]
    ) -> Iterator[dict[str, Edge]]:
        """Each way in which `edge` is this, with the names bound so far and those that it binds."""
        if self.name in bound and bound[self.name] != edge:
            return
        if self.types is not None and draft.nodes[edge[0]].type not in self.types:
            return
        if self.test is not None and not self.test(facts, edge):
            return
        if self.alone and len(draft.consumers(edge[0])) != 1:
            return
        named = {**bound, self.name: edge} if self.name else bound
        if self.inputs is None:
            yield named
            return
        node = draft.nodes[edge[0]]
        if edge[1] != 0 or len(node.inputs) != len(self.inputs) or not facts.pure(node.name):
            return
        orders = itertools.permutations(node.inputs) if self.swaps else (node.inputs,)
        for order in orders:
            yield from _match_all(self.inputs, order, draft, facts, named)


def _match_all(
    patterns: Sequence[Pattern], edges: Sequence[Edge], draft: Draft, facts: Facts, bound: dict[str, Edge]
) -> Iterator[dict[str, Edge]]:
    if not patterns:
        yield bound
        return
    for found in patterns[0].matches(draft, facts, edges[0], bound):
        yield from _match_all(patterns[1:], edges[1:], draft, facts, found)


def any_(name: str) -> Pattern:
    """Anything, called `name`; the same thing wherever the name stands."""
    return Pattern(name=name)


def op(types: str, *inputs: Pattern, name: str = "", swaps: bool = False, alone: bool = False) -> Pattern:
    """A pure node of one of `types` (``"Add AddV2"``) with these inputs; `alone`: nobody else reads it or waits for it."""
    return Pattern(frozenset(types.split()), inputs or None, name, swaps, alone=alone)


def number(*values: float, name: str = "") -> Pattern:
    """A constant tensor all of whose elements are one of `values`; the sign of a zero counts."""

    def test(facts: Facts, edge: Edge) -> bool:
        found = facts.scalar(edge)
        return (
            any(found == value and _same_sign(found, value) for value in values)
            if found is not None
            else False
        )

    return Pattern(frozenset({"Const"}), None, name, test=test)


def _same_sign(found: Any, value: float) -> bool:
    """Whether two equal numbers are the same to the bit: an integer has no sign of zero."""
    return not isinstance(found, float) or math.copysign(1.0, found) == math.copysign(1.0, value)


def const(name: str) -> Pattern:
    """A constant."""
    return Pattern(frozenset({"Const"}), None, name)


class New(NamedTuple):
    """The matched node, under its name, made a node of another type, or with other inputs or attrs."""

    type: str
    inputs: Sequence[Edge]
    attrs: Mapping[str, Any] = {}


class Match:
    """A match under way: ``m["x"]`` is the edge called x, `m.node` the node at the root."""

    def __init__(
        self, draft: Draft, facts: Facts, node: StageNode, bound: Mapping[str, Edge], rule: Rule
    ) -> None:
        self.draft = draft
        self.facts = facts
        self.node = node
        self.bound = bound
        self.rule = rule

    def __getitem__(self, name: str) -> Edge:
        return self.bound[name]

    @property
    def out(self) -> Edge:
        return self.node.name, 0

    def producer(self, name: str) -> StageNode:
        """The node whose output is called `name`."""
        return self.draft.nodes[self.bound[name][0]]

    def keeps_shape(self, edge: Edge) -> bool:
        """Whether the node's output surely has the shape of `edge`."""
        facts = self.facts
        mine, its = facts.full_dims(self.out), facts.full_dims(edge)
        if mine is not None and mine == its:
            return True
        others = [each for each in self.node.inputs if each != edge]
        known = facts.dims(edge)
        for other in others:
            dims = facts.dims(other)
            if dims is None or (
                dims and (known is None or len(dims) > len(known) or any(size != 1 for size in dims))
            ):
                return False
        return True

    def make(self, type: str, inputs: Sequence[Edge], attrs: Mapping[str, Any] = {}, label: str = "") -> Edge:
        """A new node beside the matched one."""
        name = self.draft.add(
            type, inputs, attrs, like=self.node, name=f"{self.node.name}/{label or type.lower()}", sources=[self.node.name],
            reason=self.rule.why,
        )  # fmt: skip
        return name, 0

    def constant(self, value: Any, label: str = "const") -> Edge:
        """A new Const beside the matched node, made from the constants that it reads, and waiting for what they wait for."""
        value.setflags(write=False)
        name = self.draft.add(
            "Const", [], {"value": value, "dtype": _dtype_of(value)}, like=self.node, name=f"{self.node.name}/{label}",
            sources=[self.node.name], reason=self.rule.why, control_inputs=self._constants_wait(),
        )  # fmt: skip
        return name, 0

    def _constants_wait(self) -> list[str]:
        """What the constants beneath the match wait for: being in the same frame and branch, a new one has to as well."""
        found: dict[str, None] = {}
        for edge in self.bound.values():
            node = self.draft.nodes[edge[0]]
            if node.type == "Const":
                found.update(dict.fromkeys(node.control_inputs))
        return list(found)


def _dtype_of(value: Any) -> Any:
    from engine.types.dtypes import as_dtype

    return as_dtype(value.dtype)


Replacement = Callable[[Match], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row.

    `replace` gives the edge that the node is equal to, a `New`, an array (the constant that it is), or None if it does not apply
    after all.  `exact`: on floats, too, the result is the same to the bit; other rules touch integers only, unless arithmetic
    optimization is AGGRESSIVE.
    """

    name: str
    pattern: Pattern
    replace: Replacement
    why: str
    exact: bool = True


class Matcher:
    """A table of rules, applied to a node: the first that fits."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_type: dict[str, list[Rule]] = {}
        for rule in rules:
            for type in rule.pattern.types or ():
                self._by_type.setdefault(type, []).append(rule)

    def rewrite(self, draft: Draft, facts: Facts, name: str, aggressive: bool = False) -> str:
        """Apply the first rule that fits the node and changes it; gives the rule's name, or ''."""
        node = draft.nodes[name]
        for rule in self._by_type.get(node.type, ()):
            if not rule.exact and not aggressive and not _is_exact(node):
                continue
            for bound in rule.pattern.matches(draft, facts, (name, 0), {}):
                if _apply(Match(draft, facts, node, bound, rule)):
                    return rule.name
        return ""


def _is_exact(node: StageNode) -> bool:
    """Whether the node computes with integers, on which algebra's laws hold."""
    return all(dtype.is_integer or dtype.is_bool for dtype in (*node.input_dtypes, *node.output_dtypes))


def _apply(m: Match) -> bool:
    found = m.rule.replace(m)
    if found is None:
        return False
    if isinstance(found, New):
        return _become_new(m, found)
    if isinstance(found, tuple):
        return become(m.draft, m.facts, m.node.name, found, m.rule.why)
    return become_constant(m.draft, m.facts, m.node.name, found, m.rule.why)


def _become_new(m: Match, new: New) -> bool:
    if reads_switch(m.draft, m.node.name, [source for source, _ in new.inputs]):
        return False
    m.draft.replace(
        m.node.name,
        opdef=new.type,
        inputs=list(new.inputs),
        attrs={**kept_attrs(m.node), **new.attrs},
        control_inputs=waits(m.draft, m.facts, m.node.name, new.inputs),
        reason=m.rule.why,
    )
    return True
