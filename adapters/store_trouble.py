"""What is wrong with a store now, and whether that is news: each kind is logged once."""

from __future__ import annotations

from mcp_discovery.errors import StoreError, StoreFault
from mcp_discovery.probe.standing import without_figures


class StoreTrouble:
    """The last error of a store, until it serves again."""

    def __init__(self) -> None:
        self.error: StoreError | None = None
        self._told: set[str] = set()

    @property
    def fault(self) -> StoreFault | None:
        """The label of metrics; ``None`` while there is no trouble."""
        return None if self.error is None else self.error.fault

    @property
    def problem(self) -> str | None:
        """The sentence; ``None`` while there is no trouble."""
        return None if self.error is None else str(self.error)

    def take(self, error: StoreError) -> bool:
        """Takes an error; whether its kind is one that there was not since the store served."""
        self.error = error
        kind = error.fault.value
        if error.fault is StoreFault.OTHER:
            kind = without_figures(error.problem)
        if error.renewed:
            kind += ", renewed"
        news = kind not in self._told
        self._told.add(kind)
        return news

    def over(self) -> bool:
        """The store serves; whether it did not before."""
        was, self.error = self.error, None
        self._told.clear()
        return was is not None
