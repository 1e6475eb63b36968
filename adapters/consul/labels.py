"""What Consul's catalog tells of an instance: the tags and the Meta of its service.

A tag is also a DNS name below the service, and may have several labels (``<name>.server``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from urllib.parse import urlsplit

from mcp_discovery import secrets
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.dns_names import AGENT, SERVER, TAG, AmbiguousLabels, dns_names
from mcp_discovery.errors import InvalidInputError, InvalidRecordError
from mcp_discovery.record import MAX_NAME, Record

#: Consul's limits for a service's Meta: its pairs, and the bytes of a key and of a value
#: (agent/structs/structs.go, ``validateMetaPair``).
_META_PAIRS, _META_KEY_BYTES, _META_BYTES = 64, 128, 512
_META_KEY = re.compile(r"[A-Za-z0-9_-]+")
#: The keys that are Consul's own.
_RESERVED = "consul-"
#: The longest tag of another program, in bytes; Consul itself has no limit but that of its log.
_TAG_BYTES = 1024
#: Tags that DNS would answer as one of :func:`dns_names`. Consul compares without regard to case.
_DNS_NAME = re.compile(rf"_?[a-z0-9-]+(\.({SERVER}|{TAG}|{AGENT}))?", re.IGNORECASE)

_OWN_KEYS = ("kind", "transport", "version", "digest", "url", "path")


def own_meta(record: Record) -> dict[str, str]:
    """What a reader without access to KV needs; a value over Consul's limit is left out."""
    meta = {
        "transport": record.endpoint.transport,
        "version": record.version,
        "digest": record.capabilities.digest or "",
    }
    if record.kind == AGENT:
        meta["kind"] = AGENT
    if record.endpoint.url is not None:
        meta |= {"url": record.endpoint.url, "path": urlsplit(record.endpoint.url).path or "/"}
    return {key: value for key, value in meta.items() if len(value.encode()) <= _META_BYTES}


class CatalogExtras:
    """Tags and Meta for other programs that read the catalog, beside those of the record.

    Raises :class:`InvalidInputError` for what Consul does not take, and for what is the record's.
    """

    def __init__(self, tags: Sequence[str] = (), meta: Mapping[str, str] | None = None) -> None:
        self.tags = tags
        self.meta = meta or {}
        for tag in tags:
            if not tag.strip() or not tag.isprintable() or len(tag.encode()) > _TAG_BYTES:
                raise InvalidInputError(
                    f"--consul-tag {tag[:80]!r} is empty, over {_TAG_BYTES} bytes or not printable"
                )
            if _DNS_NAME.fullmatch(tag):
                raise InvalidInputError(
                    f"--consul-tag {tag[:80]!r} would be a name of the server in DNS; give it as "
                    "--tag, which keeps it apart from other servers' names"
                )
        for key, why in secrets.secrets_in_mapping(self.meta):
            raise InvalidInputError(f"--consul-meta {key!r}: {why}; everybody reads the catalog")
        for key, value in self.meta.items():
            if key in _OWN_KEYS:
                raise InvalidInputError(
                    f"--consul-meta {key!r} is a key of the record's own ({', '.join(_OWN_KEYS)}); "
                    "give another one"
                )
            if not _META_KEY.fullmatch(key) or len(key) > _META_KEY_BYTES:
                raise InvalidInputError(
                    f"--consul-meta {key[:80]!r} is no key for Consul: letters, digits, _ and -, "
                    f"at most {_META_KEY_BYTES}"
                )
            if key.startswith(_RESERVED):
                raise InvalidInputError(f"--consul-meta {key!r}: {_RESERVED}… is Consul's own")
            if len(value.encode()) > _META_BYTES:
                raise InvalidInputError(
                    f"--consul-meta {key!r} has a value over Consul's {_META_BYTES} bytes"
                )
        most = _META_PAIRS - len(_OWN_KEYS)
        if len(self.meta) > most:
            raise InvalidInputError(f"--consul-meta is given more than {most} times; give fewer")


class ServiceLabels:
    """The tags and the Meta of one registration's service."""

    def __init__(self, api: ConsulApi, extras: CatalogExtras) -> None:
        self._api = api
        self._extras = extras
        #: Labels that would lead to several servers. With a service for each server there are no
        #: names to be taken for another's.
        self.ambiguous = AmbiguousLabels(self._find_ambiguous)

    def tags(self, record: Record) -> Sequence[str]:
        """The service's tags; the first one names the server."""
        if self._api.address.mode == "service-per-server":
            own = [record.name, *record.tags]
        else:
            own = dns_names(record, self.ambiguous.found)
        return list(dict.fromkeys((*own, *self._extras.tags)))

    def meta(self, record: Record) -> Mapping[str, str]:
        """The service's Meta."""
        return {**self._extras.meta, **own_meta(record)}

    def require_fit(self, record: Record) -> None:
        """Raises :class:`InvalidRecordError` where the name of the Consul service would be too long
        for DNS, of which Consul says nothing: the service would have no name at all."""
        address = self._api.address
        over = len(address.service_of(record.name)) - MAX_NAME
        if address.mode == "service-per-server" and over > 0:
            most = len(record.name) - over
            problem = (
                f"has {len(record.name)} letters, and DNS has room for {most} behind "
                f"'{address.service}-'; shorten it to {most}, with --name"
            )
            raise InvalidRecordError("name", problem)

    async def _find_ambiguous(self, record: Record) -> Set[str]:
        if self._api.address.mode == "service-per-server":
            return frozenset()
        others = [tag for tag in record.tags if tag != record.name]
        found = await self._api.servers_among(others) if others else set()
        if await self._api.services.other_servers_with_tag(record.name):
            found.add(record.name)
        return found
