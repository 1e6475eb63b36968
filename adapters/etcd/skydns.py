"""SkyDNS records of an instance, from which CoreDNS's etcd plugin serves the same names as Consul.

An instance that is healthy and has a URL has these keys for each of its names (see
:mod:`mcp_discovery.adapters.dns_names`), whose labels are reversed in ``<path>``, on the lease of
its ``live`` key, below ``/skydns/<the domain's labels reversed>/``:

* ``<service>/<path>/<id>/host``: A or AAAA (or CNAME) and SRV of ``<name>.<service>.<domain>``;
* ``<service>/<path>/<id>/text``: TXT of the same name, as CoreDNS serves no text of a key with an
  address;
* ``_<name>/_<service>/<id>``, where the name is one label: SRV of ``_<service>._<name>.<domain>``
  (RFC 2782).

The first two also serve ``<id>.<name>.<service>.<domain>``, to which SRV points.

By option there is also ``<service>/_agents/<name>/<id>``: TXT of
``<name>._agents.<service>.<domain>``, the TXT form of the records of DNS-AID
(draft-mozleywilliams-dnsop-dnsaid-02, section 4, as its reference implementation writes it). Its
SVCB form, and ARD's records, are not for CoreDNS's etcd plugin, which serves neither.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from mcp_discovery.adapters.dns_names import AGENT, SERVER, TAG, AmbiguousLabels, dns_names
from mcp_discovery.adapters.etcd.keys import Json, delete, lease_is, put, value_is
from mcp_discovery.health import Health, Status
from mcp_discovery.record import Record

DEFAULT_ROOT = "/skydns"

#: The DNS TTL in seconds. Without one CoreDNS derives it from the lease, at least 30 s.
TTL = 1

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")


@dataclass(frozen=True, slots=True)
class DNSZone:
    """The zone of the names: ``root`` is CoreDNS's ``path``, and the names end with
    ``<service>.<domain>``. With ``agents`` there are those of DNS-AID as well."""

    root: str
    domain: str
    service: str
    agents: bool = False

    @property
    def base(self) -> str:
        """The prefix of every key of the domain; ends with a slash."""
        return "/".join((self.root, *reversed(self.domain.split(".")), ""))

    def below(self, name: str) -> str:
        """The prefix of the keys of all instances with ``name``; ends with a slash."""
        return "/".join((f"{self.base}{self.service}", *reversed(name.split(".")), ""))

    def records(self, record: Record, ambiguous: Set[str] = frozenset()) -> dict[str, bytes]:
        """Key → value of all records while ``record``'s instance is healthy; the labels
        ``ambiguous`` are no names of it alone.

        There are none for an instance without a URL, or whose host is not a valid DNS name.
        """
        place = _place(record)
        if place is None:
            return {}
        host, port = place
        found: dict[str, bytes] = {}
        common = {"port": port, "weight": max(1, record.weight), "ttl": TTL}
        # ``targetstrip`` removes the last label ("host"), so that SRV's target is the instance.
        own = orjson.dumps({"host": host, **common} | ({"targetstrip": 1} if _is_ip(host) else {}))
        text = orjson.dumps({"text": text_of(record), "ttl": TTL})
        # Of these labels CoreDNS serves all that is below.
        for name in dns_names(record, ambiguous | {SERVER, TAG, AGENT}):
            below = f"{self.below(name)}{record.id}"
            found[f"{below}/host"] = own
            found[f"{below}/text"] = text
            target = f"{record.id}.{name}.{self.service}.{self.domain}" if _is_ip(host) else host
            if "." not in name:
                found[f"{self.base}_{name}/_{self.service}/{record.id}"] = orjson.dumps(
                    {"host": target, **common}
                )
        if self.agents:
            protocol, kind = ("a2a", AGENT) if record.kind == AGENT else ("mcp", SERVER)
            own_name = f"{record.id}.{record.name}.{kind}.{self.service}.{self.domain}"
            where = f"target={own_name if _is_ip(host) else host} port={port}"
            agent = f"v=1 {where} alpn={protocol} bap={protocol} {text_of(record)}"
            key = f"{self.base}{self.service}/_agents/{record.name}/{record.id}"
            found[key] = orjson.dumps({"text": agent, "ttl": TTL})
        return found


def text_of(record: Record) -> str:
    """The TXT record of an instance with a URL: words ``key=value`` without spaces inside.

    ``path`` is what follows host and port in the URL, including the query.
    """
    url = urlsplit(record.endpoint.url or "")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    facts = {
        "id": record.id,
        "version": record.version,
        "transport": record.endpoint.transport,
        "scheme": url.scheme,
        # In ASCII and without backslashes, which name servers use for quoting.
        "path": quote(path, safe="%/:?#[]@!$&'()*+,;=~"),
    }
    return " ".join(f"{key}={value}" for key, value in facts.items())


def _place(record: Record) -> tuple[str, int] | None:
    if record.endpoint.url is None:
        return None
    url = urlsplit(record.endpoint.url)
    host = url.hostname or ""
    if not _is_ip(host) and not _HOST_NAME.fullmatch(host):
        return None
    return host, url.port or _PORTS[url.scheme]


def _is_ip(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return getattr(address, "scope_id", None) is None


class DNSRecords:
    """The DNS records of one registration: those in etcd, and those that should be there.

    Execute what :meth:`to_write` returns, then call :meth:`written`.
    """

    def __init__(self, zone: DNSZone | None, lease: str, ambiguous: AmbiguousLabels) -> None:
        self._zone = zone
        self._ambiguous = ambiguous
        self._lease = lease
        #: Key → value in etcd; ``None`` is unknown, as after a transaction without a response.
        self._stored: dict[str, bytes | None] = {}
        self._wanted: dict[str, bytes] = {}

    def to_write(self, record: Record, health: Health) -> list[Json]:
        """The operations that make the records those of ``record`` in ``health``."""
        offered = self._zone is not None and health.status is Status.HEALTHY
        labels = self._ambiguous.found
        self._wanted = self._zone.records(record, labels) if self._zone and offered else {}
        gone = [key for key in self._stored if key not in self._wanted]
        new = [key for key, value in self._wanted.items() if self._stored.get(key) != value]
        self._stored |= dict.fromkeys([*gone, *new])
        return [
            *(delete(key) for key in gone),
            *(put(key, self._wanted[key], self._lease) for key in new),
        ]

    def written(self) -> None:
        """What :meth:`to_write` last returned has been executed."""
        self._stored = dict(self._wanted)

    @property
    def settled(self) -> bool:
        """Whether etcd is known to have exactly the records that it should have."""
        return self._stored == self._wanted

    def distrust(self) -> None:
        """Marks the values of all records as unknown."""
        self._stored = dict.fromkeys(self._stored)

    def removals(self) -> list[Json]:
        """The operations that remove them all."""
        return [delete(key) for key in self._stored]

    def guards(self) -> list[Json]:
        """Comparisons that are true while every record exists as it was written."""
        return [
            guard
            for key, value in self._stored.items()
            if value is not None
            for guard in (value_is(key, value), lease_is(key, self._lease))
        ]


def in_parts(operations: list[Any], most: int = 128) -> list[list[Any]]:
    """``operations`` in parts that etcd takes in one transaction (``--max-txn-ops``); at least one
    part, which may be empty."""
    return [operations[at : at + most] for at in range(0, len(operations) or 1, most)]
