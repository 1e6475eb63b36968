"""One module or folder for each store, the seam between them and the rest, and the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import Store, StoreOptions
    from mcp_discovery.instance import Holder

__all__ = ["open_store"]


def open_store(
    url: str, options: StoreOptions | None = None, *, holder: Holder | None = None
) -> Store:
    """The store that ``url`` names; nothing is connected yet.

    Which URLs there are says :mod:`mcp_discovery.adapters.stores`. ``holder`` is the identity under
    which registrations are made.

    Raises :class:`~mcp_discovery.errors.InvalidStoreURLError`, and
    :class:`~mcp_discovery.errors.InvalidInputError` for options that cannot be used.
    """
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.adapters.stores import kind_of

    return kind_of(url).open(url, options or StoreOptions(), holder=holder)
