"""The scope tree as a list of rows: only what is open is there, so that a graph of 100,000 nodes costs what is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from viz import format as fmt
from viz.cells import Line, spread
from viz.families import family
from viz.graph_model import ROOT, Scope, ScopeTree, expand_to
from viz.palette import Palette
from viz.scope_colours import ScopeColours
from viz.timings import Timings


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One row: a scope (its key ends in a slash) or an op."""

    key: str
    depth: int
    label: str
    size: int
    is_scope: bool
    is_open: bool


class TreeModel:
    """Which scopes are open, and the rows that makes.  Scopes come before ops, each in the program's order."""

    def __init__(self, tree: ScopeTree) -> None:
        self.tree = tree
        self.open: set[str] = {ROOT}
        self._rows: list[TreeRow] | None = None
        self._index: dict[str, int] = {}

    @property
    def rows(self) -> list[TreeRow]:
        if self._rows is None:
            self._rows = []
            self._add(self.tree.root, 0)
            self._index = {row.key: position for position, row in enumerate(self._rows)}
        return self._rows

    def _add(self, scope: Scope, depth: int) -> None:
        rows = self._rows
        assert rows is not None
        is_open = scope.key in self.open
        rows.append(TreeRow(scope.key, depth, scope.label or "graph", scope.size, True, is_open))
        if not is_open:
            return
        for child in scope.scopes.values():
            self._add(child, depth + 1)
        for name in scope.ops:
            label = name.rsplit("/", 1)[-1]
            label = f"({label})" if name == scope.path else label
            rows.append(TreeRow(name, depth + 1, label, 1, False, False))

    def toggle(self, key: str) -> None:
        """Open a closed scope, close an open one."""
        self.open.symmetric_difference_update({key})
        self._rows = None

    def set_open(self, key: str, is_open: bool) -> bool:
        """Open or close a scope; whether that changed anything."""
        if not key.endswith("/") or (key in self.open) == is_open:
            return False
        self.toggle(key)
        return True

    def reveal(self, key: str) -> int:
        """Open what hides `key` and return its row (-1 for an unknown key)."""
        if key not in self.tree:
            return -1
        hidden = [above for above in expand_to(self.tree, key) if above.endswith("/")]
        if not self.open.issuperset({ROOT, *hidden}):
            self.open.update((ROOT, *hidden))
            self._rows = None
        return self.index(key)

    def index(self, key: str) -> int:
        """The row of `key`, or -1 if it is not shown."""
        rows = self.rows
        return self._index.get(key, -1) if rows else -1


def draw_tree_row(
    row: TreeRow,
    tree: ScopeTree,
    colours: ScopeColours,
    palette: Palette,
    width: int,
    times: dict[str, int] | None = None,
    timings: Timings | None = None,
) -> Line:
    """One row of the tree in `width` cells: label left, number of ops (or time, where `times` has it) right."""
    indent = " " + "  " * row.depth
    spent = 0
    if row.is_scope:
        mark = "▾" if row.is_open else "▸"
        hue = palette.muted if row.key == ROOT else palette.hue(colours.of(row.key))
        spent = (times or {}).get("" if row.key == ROOT else row.key[:-1], 0)
    else:
        kind = family(tree.stage.nodes[row.key].type)
        mark, hue = kind.mark, palette.hue(kind.hue)
        spent = timings.of(row.key).total_ns if timings is not None else 0
    right = fmt.duration(spent) if spent else fmt.count(row.size) if row.is_scope and timings is None else ""
    room = width - len(indent) - 3 - len(right) - 1
    label = fmt.shorten(row.label, max(4, room))
    left: Line = [
        (f"{indent}{mark} ", palette.style(hue)),
        (label, palette.style(palette.text, bold=row.depth == 0)),
    ]
    return spread(left, [(right + " ", palette.dim)] if right else [], width)
