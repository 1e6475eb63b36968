"""A DNS zone in which strangers find a facade and the servers that it lists: ``export -f dns``.

The records are those of two drafts, and of RFC 9460 (SVCB):

* ARD v0.91, section 5.1, names ``_entries._agents`` and ``_search._agents`` as "Service Binding
  records" and says no more of them;
* DNS-AID (draft-mozleywilliams-dnsop-dnsaid-02) names ``_index._agents`` (section 3.2), a server's
  own name and, as an alias of it, ``<name>._agents`` (section 3.1). Its parameters have no numbers
  yet: those here are the private ones of its reference implementation, dns-aid-core.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self
from urllib.parse import quote, urlsplit

from mcp_discovery.record import A2A, AGENT, is_label
from mcp_discovery.urls import agent_card_url

Entry = Mapping[str, Any]

#: DNS-AID's parameters: where a card is, the agent's protocol, and a name below ``/.well-known/``.
_CARD, _PROTOCOL, _WELL_KNOWN = "key65400", "key65402", "key65409"
#: A record's transports that a client finds by host and port.
_TRANSPORTS = ("streamable-http", "sse", A2A)
#: Seconds that a resolver may cache where a facade is, and a server, which comes and goes.
_FACADE_TTL, _TTL = 3600, 10
#: The longest string in a TXT record, and how many bytes of names its index may have.
_STRING, _INDEX = 255, 4096
#: What stands in a quoted value as it is: of a URL all but quotes, backslashes and the like.
_PLAIN = "%/:?#[]@!$&'()*+,;=~"
#: A host that a certificate can name: the drafts allow no underscore in a target.
_HOST = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a URL leads: host, port, and whether by TLS."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Self:
        parts = urlsplit(url)
        tls = parts.scheme in ("https", "wss")
        return cls(parts.hostname or "", parts.port or (443 if tls else 80), tls)

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host, where it is an address."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_name(self) -> bool:
        """Whether the host may be the target of a record."""
        return self.address is None and _HOST.fullmatch(self.host) is not None

    def binding(self, target: str, protocol: str = "", **more: str) -> str:
        """A record of service mode at ``target``, with ``more`` parameters."""
        spoken = ",".join([*filter(None, [protocol]), *(["h2"] if self.tls else []), "http/1.1"])
        given = {"alpn": spoken, **more} | ({_PROTOCOL: protocol} if protocol else {})
        words = " ".join(f'{key}="{quote(value, safe=_PLAIN)}"' for key, value in given.items())
        return f"SVCB 1 {target} mandatory=alpn,port port={self.port} {words}"


def serial_after(before: str, now: int) -> int:
    """The serial of a zone that replaces the one in the text ``before``: the time ``now``
    in seconds, unless that is no later. Name servers read a zone again whose serial is greater."""
    found = re.search(r"^@ SOA \S+ \S+ (\d{1,10}) ", before, re.MULTILINE)
    return max(now, int(found[1]) + 1) if found else now


def zone(
    entries: Iterable[Entry], facade: str, domain: str, serial: int, *, gateway: bool = False
) -> tuple[str, list[str]]:
    """A zone of ``domain``, and sentences on what is left out of it.

    ``entries`` are instances as a facade lists them, ``facade`` is its public URL, ``serial`` the
    version of the zone (:func:`serial_after`). With ``gateway`` servers are found at the
    facade's gateway instead of at their instances. Names behind the first two records are relative
    to the domain, so that these may be included into a zone of one's own.
    """
    notes: list[str] = []
    facade = quote(facade, safe=_PLAIN)
    by_name: dict[str, list[tuple[Entry, _Place]]] = {}
    for each in sorted(entries, key=lambda entry: (entry["name"], entry["id"])):
        at_gateway = gateway and each.get("kind") != AGENT
        place = _Place.of(facade if at_gateway else each.get("url") or "")
        if each["transport"] not in _TRANSPORTS:
            notes.append(f"{each['id']} is left out: DNS names no {each['transport']} endpoint")
        elif not (is_label(each["name"]) and is_label(each["id"])):
            notes.append(f"{each['id']!r} of {each['name']!r} is left out: DNS has no such names")
        elif place.address is None and not place.is_name:
            notes.append(f"{each['id']} is left out: {place.host!r} is no host name for DNS")
        else:
            by_name.setdefault(each["name"], []).append((each, place))
    lines = [
        f"; What {facade} lists, by mcp-discovery export --format dns: ARD v0.91, DNS-AID-02.",
        f"$ORIGIN {domain}.",
        f"$TTL {_TTL}",
        f"@ SOA localhost. hostmaster.localhost. {serial} 60 10 3600 {_TTL}",
        "@ NS localhost.",
    ]
    own = _Place.of(facade)
    if own.is_name:
        pointer = own.binding(f"{own.host}.", **{_WELL_KNOWN: "ard.json"})
        for label in ("_entries", "_search", "_index"):
            lines.append(f"{label}._agents {_FACADE_TTL} {pointer}")
    else:
        notes.append(
            f"the facade's own records are left out: {own.host!r} is no host name for DNS; start "
            "it with --public-url"
        )
    lines += _index(f"{each['name']}:{_protocol(each)}" for each, _ in chain(*by_name.values()))
    for name, found in by_name.items():
        lines += _server(name, found, facade)
    return "\n".join(lines) + "\n", notes


def _protocol(entry: Entry) -> str:
    """The name of what it speaks, as DNS-AID has it."""
    return "a2a" if entry.get("kind") == AGENT else "mcp"


def _index(agents: Iterable[str]) -> list[str]:
    """``agents`` in one text, as the reference implementation lists them; not where it is too long
    for a response by UDP."""
    text = "agents=" + ",".join(dict.fromkeys(agents))
    if text.endswith("=") or len(text) > _INDEX:
        return []
    strings = [text[at : at + _STRING] for at in range(0, len(text), _STRING)]
    return ["_index._agents TXT " + " ".join(f'"{each}"' for each in strings)]


def _server(name: str, found: Sequence[tuple[Entry, _Place]], facade: str) -> Iterable[str]:
    targets: set[str] = set()
    for entry, place in found:
        address = place.address
        target = f"{place.host}." if address is None else f"{entry['id']}.{name}"
        card = f"{facade}/servers/{name}/server-card"
        if entry.get("kind") == AGENT:
            card = agent_card_url(entry["url"])
        record = place.binding(target, _protocol(entry), **{_CARD: card})
        if record not in targets:  # replicas behind one address
            targets.add(record)
            yield f"{name} {record}"
        if address is not None:
            yield f"{target} {'A' if address.version == 4 else 'AAAA'} {address}"
    yield f"{name}._agents SVCB 0 {name}"


def is_domain(text: str) -> bool:
    """Whether ``text`` is a domain below which there is room for ``<id>.<name>``."""
    return len(text) <= 253 - 128 and all(is_label(label) for label in text.split("."))
