"""What a session's resources were at earlier moments: where a `Session.run` began and where it ended.

A resource's state is one value that nothing changes in place, and a version.  So what it was is kept by keeping the value, and
only of the resources that have changed between two moments.  Whoever changed them: a step that was watched, another thread's, one
that ran unwatched, or a session's user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.runtime.resources import Resource, ResourceManager, Write

State = tuple[Any, int]  # a resource's value and version


Moment = Mapping[Resource, State | None]
"""What has changed up to a moment: for each resource what it was before, None if there was none."""


class Watched:
    """The resources of one session that outlive a step; moments are numbered from 0."""

    def __init__(self, manager: ResourceManager) -> None:
        self.manager = manager
        self._known: dict[Resource, State] = {}  # at the latest moment
        self._moments: list[Moment] = []
        self._first = 0  # the number of the first that is kept

    def look(self) -> int:
        """Note what has changed; gives the number of this moment."""
        known = self._known
        before: dict[Resource, State | None] = {}
        lasting = self.manager.lasting()
        for resource in lasting:
            state = known.get(resource)
            value, version = resource.value, resource.version
            if state is None or state[1] != version or state[0] is not value:
                before[resource] = state
                known[resource] = (value, version)
        if len(known) > len(lasting):
            here = set(lasting)
            for resource in [each for each in known if each not in here]:
                before[resource] = known.pop(resource)
        self._moments.append(before)
        return self._first + len(self._moments) - 1

    def changed(self, since: int, until: int) -> list[str]:
        """The names of the resources that changed between two moments."""
        moments = self._moments[since + 1 - self._first : until + 1 - self._first]
        return sorted({each.name for moment in moments for each in moment})

    def forget(self, before: int) -> None:
        """Let go of moments before number `before`: nobody goes back to them."""
        drop = max(0, min(before - self._first, len(self._moments)))
        del self._moments[:drop]
        self._first += drop

    def at(self, number: int) -> dict[Resource, State]:
        """The resources at moment `number`, with what they were."""
        found = dict(self._known)
        for at in range(len(self._moments) - 1, number - self._first, -1):
            for resource, state in self._moments[at].items():
                if state is None:
                    found.pop(resource, None)
                else:
                    found[resource] = state
        return found

    def now(self) -> dict[Resource, State]:
        """The resources as they are."""
        return {each: (each.value, each.version) for each in self.manager.lasting()}

    def become(self, wanted: Mapping[Resource, State], exactly: bool = False) -> None:
        """Let the session's resources be what they were.

        Those that are not among the `wanted` were made later, and are as when they were made: whoever made them will find them.
        `exactly`: there are then no others.
        """
        manager = self.manager
        here = set(manager.lasting())
        for resource in here.difference(wanted):
            if exactly:
                manager.discard(resource)
            elif resource.version:
                manager.undo(Write(resource, "restore", resource.fresh, 0, None))
        for resource, (value, version) in wanted.items():
            if resource not in here:
                manager.adopt(resource)
            if resource.version != version or resource.value is not value:
                manager.undo(Write(resource, "restore", value, version, None))
