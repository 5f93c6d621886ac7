"""Name scopes: a stage as a tree of scopes, and each scope as a small graph of what is directly inside it.

`ScopeTree` is built once for a stage.  `ScopeTree.level` gives what one scope shows: its child scopes and ops as items, the
edges between them added up, and what they read from and give to the rest of the graph as inputs and outputs.  An op that is
named like a scope (``w`` beside ``w/Assign``) is shown inside that scope, as ``(w)``.

A level with more items than can be looked at is collapsed: ops and scopes that are numbered alike (``Assign``, ``Assign_1``, …)
become one series, the longest series first; then ops of one type; then stretches of the list.  A series can be entered like a
scope.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine.passes.stage import Stage
from viz import format as fmt
from viz.collapse import Member, collapse

LIMIT = 200
SIDE_LIMIT = 24
ROOT = "/"


class Kind(enum.Enum):
    """What an item of a level is."""

    OP = "op"
    SCOPE = "scope"
    SERIES = "series"
    INPUT = "input"  # something outside the level that its items read
    OUTPUT = "output"  # something outside the level that reads its items


@dataclass(frozen=True, slots=True)
class Item:
    """One thing on a level.

    `key` is an op's name, a scope's path with a slash at the end, or a series' level and label; for inputs and outputs, ``<`` or
    ``>`` before the key that the thing has on its own level.  `size` is the number of ops in it, `node` an op that stands for
    it.
    """

    key: str
    label: str
    kind: Kind
    size: int
    node: str

    @property
    def target(self) -> str:
        """The key without the mark of an input or output."""
        return self.key[1:] if self.kind in (Kind.INPUT, Kind.OUTPUT) else self.key


@dataclass(frozen=True, slots=True)
class LevelEdge:
    """All edges from one item to another: how many tensors and control edges, and a label (the tensor's type if there is one)."""

    source: str
    target: str
    tensors: int
    controls: int
    label: str

    @property
    def is_control(self) -> bool:
        return self.tensors == 0


@dataclass(frozen=True)
class Level:
    """What one scope (or series) shows.  `loops` are items that feed themselves; `note` says what was collapsed, if anything."""

    key: str
    title: str
    items: tuple[Item, ...]
    edges: tuple[LevelEdge, ...]
    loops: frozenset[str]
    note: str
    crumbs: tuple[tuple[str, str], ...]

    def item(self, key: str) -> Item | None:
        return next((item for item in self.items if item.key == key), None)


@dataclass
class Scope:
    """A name scope: child scopes by their last name, the ops directly in it, and how many ops it holds in all."""

    path: str
    parent: Scope | None
    scopes: dict[str, Scope] = field(default_factory=dict)
    ops: list[str] = field(default_factory=list)
    size: int = 0

    @property
    def key(self) -> str:
        return self.path + "/" if self.path else ROOT

    @property
    def label(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    def names(self) -> Iterator[str]:
        """Every op in the scope and in the scopes below."""
        yield from self.ops
        for child in self.scopes.values():
            yield from child.names()


@dataclass(frozen=True, slots=True)
class _Series:
    scope: Scope
    label: str
    members: tuple[Member, ...]
    parent: str


class ScopeTree:
    """The scopes of a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.root = Scope("", None)
        self.scopes: dict[str, Scope] = {"": self.root}
        paths: set[str] = set()
        for name in stage.nodes:
            cut = name.rfind("/")
            while cut > 0:
                path = name[:cut]
                if path in paths:
                    break
                paths.add(path)
                cut = name.rfind("/", 0, cut)
        self._home: dict[str, Scope] = {}
        for name in stage.nodes:
            home = self._scope(name if name in paths else name.rpartition("/")[0])
            home.ops.append(name)
            self._home[name] = home
        for scope in reversed(list(self.scopes.values())):
            scope.size += len(scope.ops)
            if scope.parent is not None:
                scope.parent.size += scope.size
        self._series: dict[str, _Series] = {}
        self.notes: dict[str, str] = {}  # what to write beside single ops

    def _scope(self, path: str) -> Scope:
        found = self.scopes.get(path)
        if found is None:
            head, _, tail = path.rpartition("/")
            parent = self._scope(head)
            found = parent.scopes[tail] = self.scopes[path] = Scope(path, parent)
        return found

    def home(self, name: str) -> Scope:
        """The scope in which op `name` is shown.  Raises KeyError for an unknown op."""
        return self._home[name]

    def level_key(self, key: str) -> str:
        """The key of the level on which op or scope `key` is an item."""
        if key in self._series:
            return self._series[key].parent
        if key.endswith("/"):
            parent = self.scopes[key[:-1]].parent if key != ROOT else None
            return parent.key if parent is not None else ROOT
        return self._home[key].key

    def __contains__(self, key: str) -> bool:
        return (
            key in self._home
            or key == ROOT
            or (key.endswith("/") and key[:-1] in self.scopes)
            or key in self._series
        )

    def scope_of(self, key: str) -> Scope:
        """The scope with that key.  Raises KeyError if there is none."""
        return self.scopes["" if key == ROOT else key[:-1]]

    def names_in(self, key: str) -> tuple[str, ...]:
        """The ops that an item's key stands for."""
        if key in self._series:
            return tuple(name for member in self._series[key].members for name in member.names)
        if key.endswith("/"):
            return tuple(self.scope_of(key).names())
        return (key,)

    # Levels.

    def level(self, key: str = ROOT, *, limit: int = LIMIT, constants: bool = True) -> Level:
        """What the scope or series `key` shows, in at most `limit` items besides inputs and outputs.

        `constants=False` leaves out ops of type Const (and counts them in the note).  Raises KeyError for an unknown key.
        """
        series = self._series.get(key)
        scope = series.scope if series is not None else self.scope_of(key)
        members = list(series.members) if series is not None else self._members(scope)
        notes = []
        if not constants:
            kept = [member for member in members if member.type != "Const"]
            if len(kept) < len(members):
                notes.append(fmt.plural(len(members) - len(kept), "constant") + " hidden")
            members = kept
        total = len(members)
        items, owner = self._collapse(key, scope, members, limit)
        if len(items) < total:
            notes.append(f"{fmt.count(total)} items, those named alike drawn as one: {len(items)} shown")
        edges, sides, loops = self._edges(scope, owner, constants)
        return Level(
            key=key,
            title=series.label if series is not None else scope.label,
            items=(*sides[0], *items, *sides[1]),
            edges=edges,
            loops=loops,
            note="; ".join(notes),
            crumbs=self._crumbs(key),
        )

    def _crumbs(self, key: str) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        while key != ROOT:
            series = self._series.get(key)
            found.append((key, series.label if series is not None else self.scope_of(key).label))
            key = self.level_key(key)
        return ((ROOT, "graph"), *reversed(found))

    def _members(self, scope: Scope) -> list[Member]:
        nodes = self.stage.nodes
        found = [Member(child.key, child.label, tuple(child.names()), "") for child in scope.scopes.values()]
        for name in scope.ops:
            label = name.rsplit("/", 1)[-1]
            if name == scope.path:
                label = f"({label})"
            found.append(Member(name, label, (name,), nodes[name].type))
        return found

    def _collapse(
        self, key: str, scope: Scope, members: list[Member], limit: int
    ) -> tuple[list[Item], dict[str, str]]:
        groups = collapse(members, limit)
        items: list[Item] = []
        owner: dict[str, str] = {}
        for position, (label, group) in enumerate(groups):
            names = [name for member in group for name in member.names]
            if len(group) == 1:
                member = group[0]
                kind = Kind.OP if member.type else Kind.SCOPE
                item = Item(member.key, member.label, kind, len(names), names[0])
            else:
                item_key = f"{key if key != ROOT else ''}{label}#{position}"
                self._series[item_key] = _Series(scope, label, tuple(group), key)
                item = Item(item_key, label, Kind.SERIES, len(names), names[0])
            items.append(item)
            owner.update(dict.fromkeys(names, item.key))
        return items, owner

    def _outside(self, scope: Scope, name: str) -> tuple[str, str, str]:
        """The key, label and level of what holds op `name`, which is not on the level of `scope`."""
        home = self._home[name]
        above: set[int] = set()
        walk: Scope | None = scope
        while walk is not None:
            above.add(id(walk))
            walk = walk.parent
        if id(home) in above:
            return name, name.rsplit("/", 1)[-1], home.path
        child = home
        while child.parent is not None and id(child.parent) not in above:
            child = child.parent
        return child.key, child.label, child.parent.path if child.parent is not None else ""

    def _edges(
        self, scope: Scope, owner: dict[str, str], constants: bool
    ) -> tuple[tuple[LevelEdge, ...], tuple[list[Item], list[Item]], frozenset[str]]:
        nodes, consumers = self.stage.nodes, self.stage.consumers
        found: dict[tuple[str, str], list[int | str]] = {}
        loops: set[str] = set()
        sides: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
        labels: dict[str, str] = {}
        outside: dict[str, str] = {}

        def hidden(name: str) -> bool:
            return not constants and name not in owner and nodes[name].type == "Const"

        def side(name: str, which: int) -> str:
            if name not in outside:
                key, label, _ = self._outside(scope, name)
                outside[name] = key
                labels[key] = label
            key = "<>"[which] + outside[name]
            sides[which].setdefault(key, []).append(name)
            return key

        def add(source: str, target: str, reader: str, tensor: tuple[str, int] | None) -> None:
            if source == target:
                # an op within a scope that reads another of that scope is no loop; only single ops feed themselves
                if tensor is not None and tensor[0] == reader:
                    loops.add(source)
                return
            entry = found.setdefault((source, target), [0, 0, ""])
            if tensor is None:
                entry[1] += 1  # type: ignore[operator]
                return
            entry[0] += 1  # type: ignore[operator]
            if entry[0] == 1:
                node = nodes[tensor[0]]
                index = tensor[1]
                if index < len(node.output_dtypes):
                    entry[2] = fmt.tensor(node.output_dtypes[index], node.output_shapes[index])
            else:
                entry[2] = f"{entry[0]} tensors"

        for name, key in owner.items():
            node = nodes[name]
            for source, index in node.inputs:
                if not hidden(source):
                    add(owner.get(source) or side(source, 0), key, name, (source, index))
            for source in node.control_inputs:
                if not hidden(source):
                    add(owner.get(source) or side(source, 0), key, name, None)
            for reader in consumers[name]:
                if reader in owner or hidden(reader):
                    continue
                there = nodes[reader]
                target = side(reader, 1)
                for source, index in there.inputs:
                    if source == name:
                        add(key, target, reader, (source, index))
                if name in there.control_inputs:
                    add(key, target, reader, None)
        items, renamed = self._side_items(sides, labels)
        merged: dict[tuple[str, str], LevelEdge] = {}
        for (source, target), (tensors, controls, label) in found.items():
            pair = renamed.get(source, source), renamed.get(target, target)
            edge = LevelEdge(*pair, int(tensors), int(controls), str(label))
            old = merged.get(pair)
            if old is not None:
                tensors = old.tensors + edge.tensors
                label = f"{tensors} tensors" if old.tensors and edge.tensors else old.label or edge.label
                edge = LevelEdge(*pair, tensors, old.controls + edge.controls, label)
            merged[pair] = edge
        return tuple(merged.values()), items, frozenset(loops)

    def _side_items(
        self, sides: tuple[dict[str, list[str]], dict[str, list[str]]], labels: dict[str, str]
    ) -> tuple[tuple[list[Item], list[Item]], dict[str, str]]:
        """Inputs and outputs as items, those beyond `SIDE_LIMIT` as one; and the keys that this merged, old to new."""
        renamed: dict[str, str] = {}
        both: tuple[list[Item], list[Item]] = ([], [])
        for which, kind in enumerate((Kind.INPUT, Kind.OUTPUT)):
            keys = list(sides[which])
            shown = keys if len(keys) <= SIDE_LIMIT else keys[: SIDE_LIMIT - 1]
            for key in shown:
                names = dict.fromkeys(sides[which][key])
                both[which].append(Item(key, labels[key[1:]], kind, len(names), next(iter(names))))
            rest = keys[len(shown) :]
            if rest:
                merged = "<>"[which] + f"*{kind.value}s"
                renamed.update(dict.fromkeys(rest, merged))
                names = dict.fromkeys(name for key in rest for name in sides[which][key])
                label = f"{len(rest)} more {kind.value}s"
                both[which].append(Item(merged, label, kind, len(names), next(iter(names))))
        return both, renamed


def expand_to(tree: ScopeTree, key: str) -> Iterable[str]:
    """The keys of the scopes that must be open for `key` to be seen, outermost first."""
    found: list[str] = []
    walk = tree.level_key(key)
    while walk != ROOT:
        found.append(walk)
        walk = tree.level_key(walk)
    return reversed(found)


def locate(tree: ScopeTree, key: str, constants: bool = True, limit: int = LIMIT) -> tuple[str, bool]:
    """The key of the level on which a node or scope is an item, series included; and whether constants must be shown for that."""
    level = tree.level(tree.level_key(key), limit=limit, constants=constants)
    node = next(iter(tree.names_in(key)))
    while level.item(key) is None:
        holder = next(
            (item for item in level.items if item.kind is Kind.SERIES and node in tree.names_in(item.key)),
            None,
        )
        if holder is not None:
            level = tree.level(holder.key, limit=limit, constants=constants)
        elif not constants:
            constants = True
            level = tree.level(level.key, limit=limit)
        else:
            break
    return level.key, constants
