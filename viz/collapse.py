"""Many things become few: a level's ops and scopes in groups that are named alike, as few groups as can be looked at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

_NUMBERED = re.compile(r"_\d+$")


@dataclass(frozen=True, slots=True)
class Member:
    """An op (with its type) or a scope (without); `names` are the ops in it."""

    key: str
    label: str
    names: tuple[str, ...]
    type: str


Group = tuple[str, list[Member]]


def collapse(members: list[Member], limit: int) -> list[Group]:
    """Members in at most `limit` labelled groups (at least 2), in the order of each group's first member.

    What is numbered alike goes together first, the longest series first; then ops of one type; then stretches of the list.
    """
    groups: list[Group] = [(member.label, [member]) for member in members]
    if len(groups) <= limit:
        return groups
    for name in (_series_name, _type_name):
        merged = _merge(groups, name, limit)
        # One series of everything would look the same inside.
        if len(merged) > 1:
            groups = merged
        if len(groups) <= limit:
            return groups
    size = -(-len(groups) // limit)
    found: list[Group] = []
    for start in range(0, len(groups), size):
        stretch = groups[start : start + size]
        label = stretch[0][0] if len(stretch) == 1 else f"{stretch[0][0]} … {stretch[-1][0]}"
        found.append((label, [member for _, group in stretch for member in group]))
    return found


def _series_name(label: str, group: list[Member]) -> str:
    if len(group) > 1:
        return label
    return _NUMBERED.sub("", label) + (" *" if group[0].type else "/*")


def _type_name(label: str, group: list[Member]) -> str:
    return f"all {group[0].type} *" if len(group) == 1 and group[0].type else label


def _merge(groups: list[Group], name: Callable[[str, list[Member]], str], limit: int) -> list[Group]:
    """Join groups that `name` calls alike, the largest joins first, until `limit` is kept."""
    named = [name(label, group) for label, group in groups]
    excess = len(groups) - limit
    joined: set[str] = set()
    for called, size in Counter(named).most_common():
        if excess <= 0 or size < 2:
            break
        joined.add(called)
        excess -= size - 1
    found: dict[str, Group] = {}
    for position, ((label, group), called) in enumerate(zip(groups, named)):
        if called in joined:
            found.setdefault(called, (called, []))[1].extend(group)
        else:
            found[f"{position}:{label}"] = (label, group)
    return list(found.values())
