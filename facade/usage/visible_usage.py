"""How much is used of what some callers see."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mcp_discovery.facade.access.visible_list import VisibleList
from mcp_discovery.facade.usage.usage import (
    CAPABILITY_REQUEST,
    HEALTH_CHECK,
    Usage,
)
from mcp_discovery.health import Load
from mcp_discovery.query.filters import capability_names
from mcp_discovery.usage_window import Window


class VisibleUsage(Usage):
    """The figures of what ``catalog`` shows, of the calls and probes that ``whole`` counts.

    Those of an instance that is visible as a whole are the whole's. Of one of which some tools are
    visible only calls of these count, from when this began.
    """

    def __init__(self, whole: Usage, catalog: VisibleList) -> None:
        super().__init__(catalog)
        self._whole_usage = whole
        self._shown = catalog
        whole.listen(CAPABILITY_REQUEST, self._take_outcome)
        whole.listen(HEALTH_CHECK, self._take_probe)

    def close(self) -> None:
        """Counts no more."""
        self._whole_usage.unlisten(CAPABILITY_REQUEST, self._take_outcome)
        self._whole_usage.unlisten(HEALTH_CHECK, self._take_probe)

    def instance(self, id: str, reported: Load | None) -> Load:
        """See :meth:`Usage.instance`."""
        if self._shown.shows_whole(id):
            return self._whole_usage.instance(id, reported)
        return super().instance(id, reported)

    def requests(self) -> Mapping[str, int]:
        """See :meth:`Usage.requests`."""
        whole = self._whole_usage.requests()
        shown = {id: number for id, number in whole.items() if self._shown.shows_whole(id)}
        return {**super().requests(), **shown}

    def checks(self, id: str) -> tuple[int, int, datetime | None, float | None]:
        """See :meth:`Usage.checks`."""
        if id in self._shown.view.entries:
            return self._whole_usage.checks(id)
        return super().checks(id)

    def _windows(self, id: str, capability: str | None, now: float) -> list[Window]:
        windows = super()._windows(id, capability, now)
        if self._shown.shows_whole(id):
            del self._instances[id]
        return windows

    def _take_outcome(self, _: str, id: str, facts: Mapping[str, Any]) -> None:
        entry = self._shown.view.entries.get(id)
        if entry is None:
            return
        capability: str | None = facts["capability"]
        shown = self._shown.shows_whole(id) or capability in (*capability_names(entry.record),)
        if not shown:
            return
        self.outcome(
            id,
            latency=facts["latency"],
            success=facts["success"],
            capability=capability,
            error=facts["error"],
        )

    def _take_probe(self, kind: str, id: str, facts: Mapping[str, Any]) -> None:
        if id in self._shown.view.entries:
            self._notify(kind, id, facts)
