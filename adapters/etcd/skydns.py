"""SkyDNS records of an instance, from which CoreDNS's etcd plugin serves names as Consul does.

For each label (the server's name and its tags) of an instance that is healthy and has a URL, on
the lease of its ``live`` key, below ``/skydns/<the domain's labels reversed>/``:

* ``<service>/<label>/<id>/host``: A or AAAA (or CNAME) and SRV of ``<label>.<service>.<domain>``;
* ``<service>/<label>/<id>/text``: TXT of the same name. CoreDNS serves no text beside an address;
* ``_<label>/_<service>/<id>``: SRV of ``_<service>._<label>.<domain>`` (RFC 2782).

The first two also answer ``<id>.<label>.<service>.<domain>``, which is what SRV points to.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from mcp_discovery.adapters.etcd.txn import Json, delete, lease_is, put, value_is
from mcp_discovery.health import Health, Status
from mcp_discovery.record import Record

DEFAULT_ROOT = "/skydns"

#: Seconds for which an answer may be kept. Without one, CoreDNS makes one up from the lease: 30 s
#: at least.
TTL = 1

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")


@dataclass(frozen=True, slots=True)
class Zone:
    """Where the names are: ``root`` is CoreDNS's ``path``, and the names end with
    ``<service>.<domain>``."""

    root: str
    domain: str
    service: str

    @property
    def base(self) -> str:
        """What every key of the domain begins with; ends with a slash."""
        return "/".join((self.root, *reversed(self.domain.split(".")), ""))

    def records(self, record: Record) -> dict[str, bytes]:
        """Key → value of all that is served while ``record``'s instance is healthy.

        Nothing for one without a URL, or whose host is no name for DNS.
        """
        place = _place(record)
        if place is None:
            return {}
        host, port = place
        found: dict[str, bytes] = {}
        common = {"port": port, "weight": max(1, record.weight), "ttl": TTL}
        # Without the label before it ("host"), the target of SRV is the name of the instance.
        own = orjson.dumps({"host": host, **common} | ({"targetstrip": 1} if _is_ip(host) else {}))
        text = orjson.dumps({"text": text_of(record), "ttl": TTL})
        for label in dict.fromkeys((record.name, *record.tags)):
            below = f"{self.base}{self.service}/{label}/{record.id}"
            found[f"{below}/host"] = own
            found[f"{below}/text"] = text
            target = f"{record.id}.{label}.{self.service}.{self.domain}" if _is_ip(host) else host
            found[f"{self.base}_{label}/_{self.service}/{record.id}"] = orjson.dumps(
                {"host": target, **common}
            )
        return found


def text_of(record: Record) -> str:
    """What TXT says of an instance with a URL: words ``key=value``, none with a space in it.

    ``path`` is what follows host and port in the URL, its query included.
    """
    url = urlsplit(record.endpoint.url or "")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    facts = {
        "id": record.id,
        "version": record.version,
        "transport": record.endpoint.transport,
        "scheme": url.scheme,
        # In ASCII, and without the backslash, with which a name server quotes.
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


class Names:
    """The records of one registration: those that are written, and those that should be.

    Usage: do :meth:`to_write` with the transaction that they belong to, then say :meth:`wrote`.
    """

    def __init__(self, zone: Zone | None, lease: str) -> None:
        self._zone = zone
        self._lease = lease
        #: None: nobody knows, as after a transaction whose answer was lost.
        self._there: dict[str, bytes | None] = {}
        self._wanted: dict[str, bytes] = {}

    def to_write(self, record: Record, health: Health) -> list[Json]:
        """The operations after which the records are those of ``record`` in ``health``."""
        offered = self._zone is not None and health.status is Status.HEALTHY
        self._wanted = self._zone.records(record) if self._zone and offered else {}
        gone = [key for key in self._there if key not in self._wanted]
        new = [key for key, value in self._wanted.items() if self._there.get(key) != value]
        self._there |= dict.fromkeys([*gone, *new])
        return [
            *(delete(key) for key in gone),
            *(put(key, self._wanted[key], self._lease) for key in new),
        ]

    def wrote(self) -> None:
        """What :meth:`to_write` gave last has been done."""
        self._there = dict(self._wanted)

    @property
    def settled(self) -> bool:
        """Whether all is written that should be, for all that is known."""
        return self._there == self._wanted

    def doubt(self) -> None:
        """Forgets that any record is there as it should be."""
        self._there = dict.fromkeys(self._there)

    def removals(self) -> list[Json]:
        """The operations that remove them all."""
        return [delete(key) for key in self._there]

    def guards(self) -> list[Json]:
        """What holds as long as every record is there, as it was written."""
        return [
            guard
            for key, value in self._there.items()
            if value is not None
            for guard in (value_is(key, value), lease_is(key, self._lease))
        ]


def in_parts(operations: list[Any], most: int = 128) -> list[list[Any]]:
    """``operations`` as etcd takes them in one transaction (``--max-txn-ops``); one part at
    least."""
    return [operations[at : at + most] for at in range(0, len(operations) or 1, most)]
