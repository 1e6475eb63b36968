"""What a check of the doctor is given, and what it finds."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from mcp_discovery.adapters.consul.url import DEFAULT_SERVICE, parse_url
from mcp_discovery.adapters.remote.api import FacadeApi
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.adapters.stores import kind_of
from mcp_discovery.cli.facade_connection import facade_api
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidInputError, InvalidStoreURLError
from mcp_discovery.program import Program
from mcp_discovery.record import Record

Role = Literal["sidecar", "facade"]
State = Literal["ok", "wrong", "unchecked"]


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One line of the report; ``advice`` says what to do about it.

    ``unchecked`` is what could not be checked, or was not asked for; it is never a pass.
    """

    state: State
    message: str
    advice: str = ""


def ok(message: str) -> DoctorFinding:
    """It is as it should be."""
    return DoctorFinding("ok", message)


def wrong(message: str, advice: str) -> DoctorFinding:
    """It is not, and this is what to do."""
    return DoctorFinding("wrong", message, advice)


def unchecked(why: str, advice: str = "") -> DoctorFinding:
    """Nobody knows, and why."""
    return DoctorFinding("unchecked", why, advice)


#: As much of a server's name as its instances' ids begin with.
_MOST_OF_NAME = 54


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be checked; ``timeout`` seconds for each check. See ``mcp-discovery doctor``."""

    facade: str
    facade_token: str | None = field(default=None, repr=False)
    facade_token_file: str | None = None
    store: str | None = None
    credentials: StoreOptions = field(default_factory=StoreOptions)
    role: Role = "sidecar"
    name: str | None = None
    read_only: bool = False
    server: str | None = None
    server_token: str | None = field(default=None, repr=False)
    server_token_file: str | None = None
    server_ca: str | None = None
    dns: tuple[str, int] | None = None
    dns_domain: str | None = None
    tags: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    env_file: str | None = None
    timeout: float = 5.0

    @property
    def patience(self) -> float:
        """Seconds for what takes a few requests: each has its time-out, and tells why it ended."""
        return 2 * self.timeout + 1

    def probe(self) -> Record:
        """What a sidecar of :attr:`name` would register, at an address where nobody is: port 9 is
        the discard service's. Raises :class:`InvalidInputError`."""
        name = self.name or "doctor"
        content = {
            "id": f"{name[:_MOST_OF_NAME]}-{secrets.token_hex(4)}",
            "name": name,
            "endpoint": {"url": "http://127.0.0.1:9/mcp"},
            "tags": self.tags,
            "capabilities": {"digest": CapabilityDocument().digest},
        }
        return Record.parse(content)

    def api(self) -> AbstractAsyncContextManager[FacadeApi]:
        """The endpoints of :attr:`facade`; see
        :func:`mcp_discovery.cli.facade_connection.facade_api`."""
        return facade_api(
            self.facade, self.facade_token, self.facade_token_file, timeout=self.timeout
        )

    def program(self) -> Program:
        """How :attr:`command` is started; raises :class:`InvalidInputError`."""
        if unset := [name for name in self.env if name not in os.environ]:
            raise InvalidInputError(
                f"--env {unset[0]}: it is not set here; set it, or leave it out"
            )
        env = {name: os.environ[name] for name in self.env}
        return Program(command=self.command, env=env, env_file=self.env_file)

    def bridge(self, command: Sequence[str], tags: Sequence[str], *options: str) -> str:
        """The command line that serves ``command``, which speaks stdio, to agents."""
        given = (*options, *(each for tag in tags for each in ("--tag", tag)))
        store = ("--store", self.store or self.facade)
        return f"`{shlex.join(('mcp-discovery', 'sidecar', *store, *given, '--', *command))}`"

    def domain_of(self, server: str | None) -> str | None:
        """The domain of DNS names of ``server``, or of all servers of the store; ``None`` where
        each server has one of its own and ``server`` is ``None``."""
        if self.dns_domain is not None:
            return self.dns_domain
        service = DEFAULT_SERVICE
        if self.store is not None and self.store.startswith("consul"):
            try:
                address = parse_url(self.store)
            except InvalidStoreURLError:  # the check of the store says so
                address = None
            if address is not None and address.mode == "service-per-server" and server is None:
                return None
            if address is not None:
                service = address.service_of(server or "")
        return f"{service}.service.consul"

    @property
    def store_urls(self) -> list[str]:
        """The HTTP addresses of the store; none where it has none (``embedded:``)."""
        if self.store is None:
            return []
        try:
            return list(kind_of(self.store).addresses(self.store))
        except InvalidStoreURLError:  # the check of the store says so
            return []


def host_of(url: str) -> tuple[str, int]:
    """The host and the port that ``url`` leads to."""
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    return parts.hostname or "", parts.port or (443 if secure else 80)


def parse_role(text: str) -> Role:
    """As whom a store is checked; raises :class:`InvalidInputError`."""
    for each in get_args(Role):
        if each == text:
            return cast(Role, text)
    raise InvalidInputError(f"--as {text!r} is none of {', '.join(get_args(Role))}")


def endpoint_of_dns(text: str) -> tuple[str, int]:
    """``HOST:PORT``, the port being 53 where there is none; raises :class:`InvalidInputError`."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f"--dns {text!r}: {error}; write 127.0.0.1:8600") from error
    if not host or parts.path:
        raise InvalidInputError(f"--dns {text!r} is no host and port; write 127.0.0.1:8600")
    return host, port or 53
