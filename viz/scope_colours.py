"""Which hue a scope has: the same in the graph, the tree, the timeline and the lists.

Scopes are told apart at the first level at which the graph branches: if everything is under ``model/``, the scopes below it
count.  The eight with the most ops get a hue each, in the order of the program; ops and scopes beyond are neutral.
"""

from __future__ import annotations

from viz.graph_model import Scope, ScopeTree


class ScopeColours:
    """Hue indices (0 to `hues` - 1, or -1 for neutral) of the ops and scopes of a tree."""

    tints_ops = False  # whether ops have the colour too, and not scopes alone

    def __init__(self, tree: ScopeTree, hues: int = 8) -> None:
        scope = tree.root
        while len(scope.scopes) == 1 and len(scope.ops) <= 2:
            scope = next(iter(scope.scopes.values()))
        self.base: Scope = scope
        largest = sorted(scope.scopes.values(), key=lambda child: -child.size)[:hues]
        chosen = {child.path for child in largest}
        ordered = [child.path for child in scope.scopes.values() if child.path in chosen]
        self._index = {path: position for position, path in enumerate(ordered)}
        self._prefix = len(scope.path) + 1 if scope.path else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of the scopes that have a hue, in the order of the hues."""
        return tuple(self._index)

    def of(self, name: str) -> int:
        """The hue index of the op or scope with that name (a scope's with or without its slash)."""
        cut = name.find("/", self._prefix)
        path = name if cut < 0 else name[:cut]
        return self._index.get(path, -1)

    def label(self, index: int) -> str:
        """The name of the scope with that hue, without what all have in common; ``other`` for neutral."""
        return self.names[index][self._prefix :] if 0 <= index < len(self._index) else "other"
