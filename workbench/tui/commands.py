"""The command palette: the actions of the table, and the nodes of the open graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from viz.search import search
from workbench.tui.actions import Action, actions_of
from workbench.tui.screens.base import BaseScreen

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

MOST_NODES = 12


class WorkbenchCommands(Provider):
    """Actions of the screen first, then the app's, then nodes whose name or type holds the words typed."""

    @property
    def _workbench(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self.app)

    def _actions(self) -> list[tuple[Action, Callable[[], Any]]]:
        screen = self.screen
        found: list[tuple[Action, Callable[[], Any]]] = []
        if isinstance(screen, BaseScreen):
            found += [(action, partial(action.handler, screen)) for action in actions_of(screen.where)]
        found += [
            (action, partial(action.handler, self.app))
            for action in actions_of("app")
            if self._workbench.offers(action.id)
        ]
        return [(action, call) for action, call in found if action.palette]

    async def discover(self) -> Hits:
        for action, call in self._actions():
            yield DiscoveryHit(f"{action.help}  ({action.shown_key})", call, text=action.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action, call in self._actions():
            score = matcher.match(action.help)
            if score > 0:
                yield Hit(
                    score, matcher.highlight(action.help), call, text=action.help, help=action.shown_key
                )
        view = self._workbench.stage
        if view is not None:
            for rank, name in enumerate(search(view.stage, query, limit=MOST_NODES)):
                node = view.stage.nodes[name]
                call = partial(self._workbench.go_to_node, name)
                yield Hit(0.4 - rank / 100, name, call, text=name, help=f"{node.type}, in the graph")
