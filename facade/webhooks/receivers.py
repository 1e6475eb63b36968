"""The file of ``--webhooks``: who is told of what, and the secrets that messages are signed with.

It is YAML, read strictly, and followed; the files of secrets that it names are, too. Signatures are
those of Standard Webhooks 1.0.0 (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, field_validator

from mcp_discovery.adapters.view import Entry
from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.facade.access.section import Section, Words, read_section
from mcp_discovery.facade.gateway.credentials import SecretReference
from mcp_discovery.facade.webhooks.messages import EVENTS, Message
from mcp_discovery.nearest import nearest
from mcp_discovery.query.query import Query, query_of
from mcp_discovery.record import HttpUrl
from mcp_discovery.urls import wire_url

_PREFIX: Final = "whsec_"
#: How many bytes a secret has (Standard Webhooks, "Signature scheme").
_SECRET_BYTES: Final = range(24, 65)
#: Everything that ``events`` may name: a type, or what types begin with.
_NAMES: Final = (*EVENTS, *dict.fromkeys(each.partition(".")[0] for each in EVENTS))


class ReceiverSection(Section):
    """One receiver. ``events`` are types, or ``server``, ``list`` or ``alarm`` for all of these;
    without any it is told of everything. ``filter`` has the filters of ``/servers``. The secret's
    file has one ``whsec_…``, or several while one replaces another."""

    url: HttpUrl
    secret: SecretReference
    events: Words = Field([])
    filter: dict[str, str | list[str]] = Field({})

    @field_validator("events")
    @classmethod
    def _check_events(cls, given: list[str]) -> list[str]:
        for each in given:
            if each not in _NAMES:
                near = nearest(each, _NAMES)
                hint = f"did you mean {near}?" if near else f"it may be {', '.join(_NAMES)}"
                raise ValueError(f"{each[:100]!r} is no event; {hint}")
        return given

    @field_validator("filter")
    @classmethod
    def _check_filter(cls, given: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        query_of(given)
        return given


_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class WebhooksFile(Section):
    """What the file says: receivers by name, and for how many seconds something has to be wrong
    until there is an alarm."""

    receivers: dict[Annotated[str, Field(pattern=_NAME)], ReceiverSection] = Field(
        {}, max_length=100
    )
    alarm_after: float = Field(60.0, ge=0, le=86_400)


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver; ``keys`` are the secrets that its messages are signed with now."""

    name: str
    url: str
    events: tuple[str, ...]
    filter: Mapping[str, str | list[str]]
    query: Query
    keys: Callable[[], Sequence[bytes]]

    @property
    def target(self) -> str:
        """Tells its URL from others that it had or will have."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def shown_url(self) -> str:
        """Its URL without what may be a credential in it."""
        return str(wire_url(self.url).origin())

    def wants(self, message: Message) -> bool:
        """Whether it is to be told of ``message``."""
        group = message.type.partition(".")[0]
        if self.events and not {message.type, group} & {*self.events}:
            return False
        return not message.about or any(map(self._matches, message.about))

    def _matches(self, entry: Entry) -> bool:
        return self.query.matches(entry.instance)

    def sign(self, id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The headers of an attempt at ``timestamp`` (POSIX seconds), one signature a secret."""
        signed = f"{id}.{timestamp}.".encode() + body
        digests = (hmac.digest(key, signed, "sha256") for key in self.keys())
        return {
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(
                f"v1,{base64.b64encode(each).decode()}" for each in digests
            ),
        }


@dataclass(frozen=True, slots=True)
class Receivers:
    """One state of the file."""

    by_name: Mapping[str, Receiver]
    alarm_after: float


def follow(path: str) -> FollowedFiles[Receivers]:
    """What the file at ``path`` says, followed; raises
    :class:`~mcp_discovery.errors.InvalidInputError`."""

    def receivers(contents: Sequence[bytes]) -> Receivers:
        file = read_section(contents[0], path, WebhooksFile)
        folder = Path(path).parent
        made = {name: _receiver(name, each, folder) for name, each in file.receivers.items()}
        return Receivers(made, file.alarm_after)

    return FollowedFiles("webhooks", [path], receivers)


def _receiver(name: str, given: ReceiverSection, folder: Path) -> Receiver:
    # An agent is a server for whoever watches, unless a filter says otherwise.
    query = query_of({"kind": "all"} | given.filter)
    keys = _followed_keys(f"secret of webhook {name}", given.secret, folder)
    return Receiver(name, given.url, tuple(given.events), given.filter, query, keys)


def _followed_keys(
    what: str, given: SecretReference, folder: Path
) -> Callable[[], Sequence[bytes]]:
    if given.file is not None:
        made = FollowedFiles(what, [str(folder / given.file)], lambda found: _keys(found[0]))
        return made.current
    value = os.environ.get(given.env or "")
    if value is None:
        raise ValueError(f"the environment variable {given.env} is not set")
    try:
        keys = _keys(value.encode())
    except ValueError as error:
        raise ValueError(f"the {what}, in {given.env}: {error}") from None
    return lambda: keys


def _keys(content: bytes) -> list[bytes]:
    """The secrets in ``content``; raises :class:`ValueError`, which does not repeat them."""
    found = []
    for word in content.decode("ascii", "replace").split():
        try:
            key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
        except (ValueError, binascii.Error):
            key = b""
        if not word.startswith(_PREFIX) or len(key) not in _SECRET_BYTES:
            raise ValueError(
                f"it holds what is no secret of Standard Webhooks: {_PREFIX} and 24 to 64 bytes in "
                'base64; make one with: echo "whsec_$(openssl rand -base64 32)"'
            )
        found.append(key)
    if not found:
        raise ValueError("it holds no secret")
    return found


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    } | WebhooksFile.model_json_schema()
