"""One module or folder for each store, the seam between them and the rest, and the catalog."""

from __future__ import annotations

from mcp_discovery.adapters.store import Store, StoreOptions
from mcp_discovery.errors import InvalidStoreURLError
from mcp_discovery.instance import Holder

__all__ = ["open_store"]


def open_store(
    url: str, options: StoreOptions | None = None, *, holder: Holder | None = None
) -> Store:
    """The store that ``url`` names; nothing is connected yet.

    ``embedded:``, ``embedded:///path/file.db``, ``http://facade:4000``, ``consul://host:8500``,
    ``etcd://host1:2379,host2:2379/prefix``; with TLS ``https://``, ``consul+https://``,
    ``etcd+https://``. ``holder`` is the identity under which registrations are made.

    Raises :class:`InvalidStoreURLError`, and :class:`~mcp_discovery.errors.InvalidInputError` for
    options that cannot be used.
    """
    options = options or StoreOptions()
    # Each store is imported only where it is used: a sidecar pays for one of them.
    match url.partition(":")[0]:
        case "embedded":
            from mcp_discovery.adapters.embedded import EmbeddedStore

            return EmbeddedStore(url, options, holder=holder)
        case "http" | "https":
            from mcp_discovery.adapters.remote import RemoteStore

            return RemoteStore(url, options, holder=holder)
        case "consul" | "consul+https":
            from mcp_discovery.adapters.consul import ConsulStore

            return ConsulStore(url, options, holder=holder)
        case "etcd" | "etcd+https":
            from mcp_discovery.adapters.etcd import EtcdStore

            return EtcdStore(url, options, holder=holder)
        case _:
            raise InvalidStoreURLError(
                url,
                "unknown scheme; use embedded:, http://facade:4000, consul://host:8500 or "
                "etcd://host:2379",
            )
