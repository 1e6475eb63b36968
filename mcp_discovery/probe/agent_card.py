"""An A2A agent's card: what it says of the agent, in the spelling of A2A 1.0 and of 0.3.

https://a2a-protocol.org/latest/specification/, section 4.4 and 8. A card is read as far as it can
be: only one without a name or without an interface is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Self
from urllib.parse import urljoin

from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.introspection import Introspection, encodable
from mcp_discovery.quoted import quoted
from mcp_discovery.record import url_problem

#: The bindings of A2A's own that can be asked over HTTP.
JSON_RPC, HTTP_JSON = "JSONRPC", "HTTP+JSON"

_NONE: dict[str, Any] = {"type": "none", "scopes": []}
_OTHER: dict[str, Any] = {"type": "other", "scopes": []}

#: How many examples of a card are a record's, and how long each of them is at most.
_MOST_EXAMPLES, _LONGEST_EXAMPLE = 5, 200
#: How many interfaces of a card are looked at, and how many scopes.
_MOST_INTERFACES, _MOST_SCOPES = 32, 64
#: A binding or a version, as a header and a reason can hold it.
_WORD = re.compile(r"[!-~]{1,256}")
#: A tenant goes with each request.
_LONGEST_TENANT = 1024


@dataclass(frozen=True, slots=True)
class AgentInterface:
    """Where an agent says that it is reached: ``version`` is of A2A, such as ``1.0``; ``tenant``
    goes with each request."""

    url: str
    binding: str
    version: str
    tenant: str | None = None

    @property
    def is_legacy(self) -> bool:
        """Whether it speaks A2A of before 1.0."""
        return self.version.startswith("0.")


@dataclass(frozen=True, slots=True)
class AgentCard:
    """A card as it was read: ``content`` is all of it but its ``skills``. ``findings`` say what was
    left out of it."""

    name: str
    content: Mapping[str, Any]
    skills: tuple[dict[str, Any], ...]
    interfaces: tuple[AgentInterface, ...]
    findings: tuple[str, ...] = ()

    @classmethod
    def of(cls, decoded: Any, url: str) -> Self:
        """The card in the JSON that was found at ``url``; raises BadAnswerError for none."""
        if not isinstance(decoded, dict):
            raise BadAnswerError("its agent card is not a JSON object")
        if not encodable(decoded):
            raise BadAnswerError("its agent card is nested too deeply")
        name = text(decoded.get("name"))
        if not name:
            raise BadAnswerError("its agent card has no name")
        interfaces = tuple(dict.fromkeys(_interfaces(decoded, url)))[:_MOST_INTERFACES]
        if not interfaces:
            raise BadAnswerError(
                "its agent card names no interface: it has neither supportedInterfaces nor a url"
            )
        listed = decoded.get("skills")
        skills = [e for e in _list(listed) if isinstance(e, dict) and text(e.get("name"))]
        findings = []
        if not isinstance(listed, list):
            findings.append("its agent card has no list of skills")
        elif len(skills) < len(listed):
            findings.append(f"dropped {len(listed) - len(skills)} skills without a name")
        content = {key: value for key, value in decoded.items() if key != "skills"}
        return cls(name, content, tuple(skills), interfaces, tuple(findings))

    def same_as(self, other: AgentCard) -> bool:
        """Whether both say the same; a card may be signed anew each time that it is asked for."""
        return (
            self.skills == other.skills
            and self.findings == other.findings
            and _unsigned(self.content) == _unsigned(other.content)
        )

    @property
    def introspection(self) -> Introspection:
        """What the agent offers."""
        return Introspection(
            era=None,
            versions=tuple(dict.fromkeys(each.version for each in self.interfaces)),
            server_info=self.info,
            instructions=None,
            capabilities={},
            tools=(),
            resources=(),
            resource_templates=(),
            prompts=(),
            skills=self.skills,
            findings=self.findings,
            card=self,
        )

    @property
    def info(self) -> dict[str, Any]:
        """What the agent says of itself, by the names that MCP servers do."""
        content = self.content
        provider = content.get("provider")
        provided = text(provider.get("url")) if isinstance(provider, dict) else ""
        icon = text(content.get("iconUrl"))
        found = {
            "name": self.name,
            "title": self.name,
            "version": text(content.get("version")),
            "description": text(content.get("description")),
            "websiteUrl": text(content.get("documentationUrl")) or provided,
            "icons": [{"src": icon}] if icon else [],
        }
        return {key: value for key, value in found.items() if value}

    @property
    def bindings(self) -> tuple[str, ...]:
        """The bindings of its interfaces, in the order of preference."""
        return tuple(dict.fromkeys(each.binding for each in self.interfaces))

    @property
    def examples(self) -> list[str]:
        """Some examples of what its skills are asked, the first one of each skill first."""
        # What comes after the first few of a skill would not be among them: equal ones are dropped.
        listed = [_list(each.get("examples"))[:_MOST_EXAMPLES] for each in self.skills]
        lines = dict.fromkeys(quoted(each) for turn in zip_longest(*listed) for each in turn)
        return [line for line in lines if 0 < len(line) <= _LONGEST_EXAMPLE][:_MOST_EXAMPLES]

    @property
    def auth(self) -> dict[str, Any]:
        """What it wants of callers, as a record says it.

        That is the first of its alternatives. ``other``: something that a record has no word for,
        such as a key in a header; the card says what.
        """
        needed = _requirements(self.content)
        if not needed or not all(needed):
            return _NONE
        names, schemes = needed[0], self.content.get("securitySchemes")
        schemes = schemes if isinstance(schemes, dict) else {}
        found = [_auth(schemes.get(name), scopes) for name, scopes in names.items()]
        return found[0] if len(found) == 1 else _OTHER


def _interfaces(card: Mapping[str, Any], url: str) -> Iterator[AgentInterface]:
    version = text(card.get("protocolVersion"))
    for each in _list(card.get("supportedInterfaces")):
        if isinstance(each, dict):
            binding = text(each.get("protocolBinding")) or text(each.get("transport"))
            found = text(each.get("protocolVersion")) or version or "1.0"
            yield from _interface(each, binding, found, url)
    if "url" in card:  # A2A 0.3, section 5.5
        version = version or "0.3"
        preferred = text(card.get("preferredTransport")) or JSON_RPC
        yield from _interface(card, preferred, version, url)
        for each in _list(card.get("additionalInterfaces")):
            if isinstance(each, dict):
                yield from _interface(each, text(each.get("transport")), version, url)


def _interface(
    spec: Mapping[str, Any], binding: str, version: str, base: str
) -> Iterator[AgentInterface]:
    place, tenant = text(spec.get("url")), text(spec.get("tenant"))
    if not 0 < len(place) <= 2048 or len(tenant) > _LONGEST_TENANT:
        return
    if not all(map(_WORD.fullmatch, (binding, version))):
        return
    binding = binding if "/" in binding else binding.upper()
    if binding in (JSON_RPC, HTTP_JSON):
        with suppress(ValueError):
            place = urljoin(base, place)
    # A patch version is none of the protocol's (3.6).
    version = ".".join(version.split(".")[:2])
    yield AgentInterface(place, binding, version, tenant or None)


def _requirements(card: Mapping[str, Any]) -> list[dict[str, list[str]]]:
    """The alternatives of its security requirements: scheme → scopes, all schemes of one."""
    found = []
    for each in _list(card.get("securityRequirements")) or _list(card.get("security")):
        if isinstance(each, dict):
            schemes = each.get("schemes", each if "schemes" not in each else {})
            if isinstance(schemes, dict):
                found.append({str(name): _scopes(scopes) for name, scopes in schemes.items()})
    return found


def _scopes(given: Any) -> list[str]:
    listed = given.get("list") if isinstance(given, dict) else given
    return [each for each in _list(listed) if isinstance(each, str)][:_MOST_SCOPES]


def _auth(scheme: Any, scopes: list[str]) -> dict[str, Any]:
    """A scheme of A2A 1.0, whose kind is the name of its only member, or of 0.3, whose ``type`` it
    is (OpenAPI 3.2, Security Scheme Object)."""
    if not isinstance(scheme, dict):
        return _OTHER
    kind, spec = text(scheme.get("type")), scheme
    for name, inner in scheme.items():
        if name.endswith("SecurityScheme") and isinstance(inner, dict):
            kind, spec = name.removesuffix("SecurityScheme"), inner
    match kind:
        case "oauth2" | "openIdConnect":
            flows = spec.get("flows")
            for flow in flows.values() if isinstance(flows, dict) else ():
                url = text(flow.get("tokenUrl")) if isinstance(flow, dict) else ""
                if url and url_problem(url, ("http", "https")) is None:
                    return {"type": "oauth2", "tokenEndpoint": url, "scopes": scopes}
            return {"type": "bearer", "scopes": scopes}
        case "http" | "httpAuth" if text(spec.get("scheme")).lower() == "bearer":
            return {"type": "bearer", "scopes": scopes}
    return _OTHER


def _unsigned(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "signatures"}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """``value`` without white space around it; empty where it is no text."""
    return value.strip() if isinstance(value, str) else ""
