"""Finding nodes by words of their names and types."""

from __future__ import annotations

from engine.passes.stage import Stage


def search(stage: Stage, query: str, limit: int = 500) -> list[str]:
    """Names of nodes that match every word of `query` in their name or type (case does not matter), best first.

    Best is: the last part of the name is the word, starts with it, holds it; then the type; then the path.
    """
    words = query.lower().split()
    if not words:
        return []
    ranked: list[tuple[int, int, str]] = []
    for position, node in enumerate(stage):
        path = node.name.lower()
        kind = node.type.lower()
        rank = 0
        for word in words:
            score = _rank(word, path, kind)
            if score < 0:
                break
            rank += score
        else:
            ranked.append((rank, position, node.name))
    ranked.sort()
    return [name for _, _, name in ranked[:limit]]


def _rank(word: str, path: str, kind: str) -> int:
    leaf = path.rsplit("/", 1)[-1]
    if leaf == word or path == word:
        return 0
    if leaf.startswith(word):
        return 1
    if word in leaf:
        return 2
    if word in kind:
        return 3
    return 4 if word in path else -1
