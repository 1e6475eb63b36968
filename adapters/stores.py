"""The stores that are installed: which URL scheme is which store, and what the product asks of it.

A store is described by a :class:`StoreKind`. Those of this distribution are :data:`BUILT_IN`; any
other distribution adds one with an entry point of the group ``mcp_discovery.stores``, whose name is
the scheme of the store's URLs and whose object is a :class:`StoreKind`::

    [project.entry-points."mcp_discovery.stores"]
    tiny = "tiny_store:TINY"

A built-in scheme cannot be replaced, and costs no search of what is installed: a sidecar starts
beside every MCP server.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from mcp_discovery.adapters.meant_url import meant_url
from mcp_discovery.errors import InvalidInputError, InvalidStoreURLError
from mcp_discovery.facade_url import without_secrets

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import Store, StoreOptions
    from mcp_discovery.instance import Holder

log = logging.getLogger(__name__)

GROUP = "mcp_discovery.stores"


def http_addresses(url: str) -> Sequence[str]:
    """``http://host:port`` for each host in a URL such as ``etcd://a:2379,b:2379/prefix``.

    ``https:`` where the scheme is ``https`` or ends with ``+https``.
    """
    scheme, _, rest = url.partition("://")
    plain = "https" if scheme == "https" or scheme.endswith("+https") else "http"
    hosts = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return [f"{plain}://{each}" for each in hosts.split(",") if each]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreKind:
    """One kind of store.

    ``schemes`` are those of its URLs, of which the first, up to a ``+``, is the entry point's name
    (``("consul", "consul+https")``). ``implementation`` is ``module:class``, imported when a store
    is opened; the class takes ``(url, options, *, holder=None)`` and implements
    :class:`mcp_discovery.adapters.store.Store`. ``example`` is a URL to write, and ``note``, where
    there is one, says in some words what it is.

    ``shared_by`` says who can open one and the same store: only the ``process`` that holds it, all
    processes of one ``machine``, or any process in the ``network``. Sidecars and several workers
    need more than a process, and a loopback address is advertised only within a machine.

    ``addresses`` gives the HTTP addresses that a URL leads to: ``mcp-discovery doctor`` resolves
    their names and compares their clocks. ``shows_tombstones`` is whether each process sees what
    another registered as a tombstone (:mod:`mcp_discovery.adapters.tombstone`). ``has_catalog`` is
    whether it keeps a service catalog that other programs read, with tags and Meta.
    """

    schemes: tuple[str, ...]
    implementation: str
    example: str
    note: str = ""
    shared_by: Literal["process", "machine", "network"] = "network"
    addresses: Callable[[str], Sequence[str]] = lambda _: ()
    shows_tombstones: bool = True
    has_catalog: bool = False

    def open(self, url: str, options: StoreOptions, *, holder: Holder | None = None) -> Store:
        """The store that ``url`` names; nothing is connected yet.

        Raises what the class raises, and :class:`InvalidInputError` for tags and Meta that would
        have no catalog to be in.
        """
        if (options.catalog_tags or options.catalog_meta) and not self.has_catalog:
            raise InvalidInputError(
                "tags and Meta for other programs (--consul-tag, --consul-meta) belong to Consul's "
                f"catalog; {self.example} has none: leave them out, or register in consul://…"
            )
        if (plain := self.unencrypted(url, options)) is not None:
            log.warning("%s", plain)
        store: Store = resolve_name(self.implementation)(url, options, holder=holder)
        return store

    def unencrypted(self, url: str, options: StoreOptions) -> str | None:
        """Says so where files for TLS are given with a URL that is without, in a sentence."""
        scheme = url.partition(":")[0]
        secure = next((each for each in self.schemes if each.endswith("https")), scheme)
        if scheme.endswith("https") or secure == scheme or not (options.ca or options.certificate):
            return None
        return (
            f"a CA or a client certificate is given for the store, but its URL begins with "
            f"{scheme}://: nothing is encrypted, and neither is used; write {secure}://"
        )


CONSUL = StoreKind(
    schemes=("consul", "consul+https"),
    implementation="mcp_discovery.adapters.consul:ConsulStore",
    example="consul://host:8500",
    addresses=http_addresses,
    has_catalog=True,
)
ETCD = StoreKind(
    schemes=("etcd", "etcd+https"),
    implementation="mcp_discovery.adapters.etcd:EtcdStore",
    example="etcd://host1:2379,host2:2379/prefix",
    addresses=http_addresses,
)
REMOTE = StoreKind(
    schemes=("http", "https"),
    implementation="mcp_discovery.adapters.remote:RemoteStore",
    example="http://facade:4000",
    note="a facade's own list",
    addresses=http_addresses,
    shows_tombstones=False,
)
EMBEDDED = StoreKind(
    schemes=("embedded",),
    implementation="mcp_discovery.adapters.embedded:EmbeddedStore",
    example="embedded: or embedded:///path/file.db",
    note="facade only",
    shared_by="process",
)
#: In the order in which help and errors name them.
BUILT_IN = (CONSUL, ETCD, REMOTE, EMBEDDED)
#: Those whose URLs name hosts, and how such a URL begins.
_WITH_HOSTS = (CONSUL, ETCD, REMOTE)
_HOST_FOLLOWS = re.compile(r"[^:/?#]+://[^/?#]")
_BY_SCHEME = {scheme: kind for kind in BUILT_IN for scheme in kind.schemes}


def kind_of(url: str) -> StoreKind:
    """The kind of store that ``url`` names.

    Raises :class:`InvalidStoreURLError` where no installed store has its scheme; the message names
    those that are installed.
    """
    if (kind := find_kind(url)) is not None:
        if kind in _WITH_HOSTS and not _HOST_FOLLOWS.match(url):
            example = meant_url(url, kind.schemes) or kind.example
            raise InvalidStoreURLError(without_secrets(url), f"names no host; write {example}")
        return kind
    examples = [kind.example for kind in reversed(BUILT_IN)]
    schemes = [*_BY_SCHEME]
    for name, added in _added():
        if isinstance(added, StoreKind):
            examples.append(added.example)
            schemes += added.schemes
        elif name == _name(url):
            raise InvalidStoreURLError(without_secrets(url), added)
    problem = "unknown scheme" if "://" in url else "has no scheme of a store"
    if meant := meant_url(url, schemes):
        raise InvalidStoreURLError(without_secrets(url), f"{problem}; did you mean {meant}?")
    raise InvalidStoreURLError(without_secrets(url), f"{problem}; use {', '.join(examples)}")


def find_kind(url: str) -> StoreKind | None:
    """The kind of store that ``url`` names; ``None`` where no installed store has its scheme.

    A store object that was made otherwise than by its URL may have any URL.
    """
    scheme = url.partition(":")[0]
    if (kind := _BY_SCHEME.get(scheme)) is not None:
        return kind
    for name, added in _added():
        if name == _name(url) and isinstance(added, StoreKind) and scheme in added.schemes:
            return added
    return None


def _name(url: str) -> str:
    """The name of the entry point for ``url``: its scheme up to a ``+``."""
    return url.partition(":")[0].partition("+")[0]


def help_text() -> str:
    """The URLs of the built-in stores, for the help of an option that takes one."""
    plain = ", ".join(f"{k.example} ({k.note})" if k.note else k.example for k in BUILT_IN)
    secure = [scheme for kind in BUILT_IN for scheme in kind.schemes if scheme.endswith("https")]
    return (
        f"{plain}, or that of a store that another package adds. "
        f"With TLS: {', '.join(f'{scheme}://' for scheme in secure)}."
    )


def _added() -> Iterator[tuple[str, StoreKind | str]]:
    """Each entry point of another distribution: its name, and its kind or why there is none."""
    # This import alone takes longer than opening a built-in store.
    from importlib.metadata import entry_points

    for each in entry_points(group=GROUP):
        if each.name in _BY_SCHEME:
            continue
        try:
            loaded = each.load()
        except (ImportError, AttributeError) as error:
            yield each.name, f"the installed store {each.value} cannot be loaded: {error}"
            continue
        if isinstance(loaded, StoreKind):
            yield each.name, loaded
        else:
            yield each.name, f"the installed store {each.value} is no StoreKind"
