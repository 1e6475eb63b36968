"""A sidecar's settings, checked before anything starts."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import InvalidInputError, InvalidRecordError, raise_all
from mcp_discovery.health import FAIL_AFTER
from mcp_discovery.program import RESTART_AFTER, Program
from mcp_discovery.record import A2A, AGENT, SERVER, Auth, Record, url_problem
from mcp_discovery.sidecar.process_figures import ProcessFigures

#: URL schemes by transport, as a record's endpoint wants them.
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "streamable-http": ("http", "https"),
    "sse": ("http", "https"),
    "websocket": ("ws", "wss"),
    A2A: ("http", "https"),
}

#: The transport of a command without a URL.
STDIO = "stdio"

#: Heartbeats that say the same lie this part of TTL apart, so that every other one comes within a
#: third of it, and no more seconds than this: every other one verifies that the store still has
#: what was written, so a store that lost it is noticed within 5 s, whatever the TTL.
_HEARTBEAT = 0.16
_LONGEST_HEARTBEAT = 1.8

#: The settings that name files of who may come in to a bridge.
_BRIDGE_FILES = ("bridge_token_file", "bridge_cert", "bridge_key", "bridge_client_ca")
#: The settings of how its processes are started, and what they are ended for.
_OF_PROCESSES = ("env", "env_file", "cwd", "memory_max", "cpu_seconds", "restart_after")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The least limit of memory that a process starts with, in bytes.
_LEAST_MEMORY = 2**20
#: How sessions of a bridged server have processes.
SESSIONS = ("auto", "shared", "each")

#: What a certificate may be for: a host name or an address.
_CERTIFICATE_NAME = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

#: A valid URL in place of the one that is known once the bridge listens.
BRIDGED = "http://127.0.0.1/mcp"

#: A valid name in place of the one that only the MCP server can give.
_PLACEHOLDER = "placeholder"


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings:
    """The settings of a sidecar. Times are in seconds.

    ``kind`` is what it is beside: an MCP server, or an A2A agent, whose ``url`` is the one below
    which its card is, and whose transport is ``a2a``.

    ``url`` and ``transport`` are how the sidecar itself reaches the MCP server; ``advertise_url``
    is what agents are given instead of a URL that is found from it; with ``try_advertised`` that
    is tried now and then. ``name``, ``version``, ``title``, ``description`` and the like take
    precedence over what the server says of itself.

    ``probe_interval`` (default: a third of ``ttl``) is the promise: a server is asked once in that
    time on average, and a refusal shows within it; silence after ``slow_after`` more. A probe that
    takes longer than ``slow_after`` (default: a quarter of the interval, at most 1 s) makes the
    instance ``degraded``; after ``fail_after`` bad answers in a row it is ``down`` (default:
    :func:`mcp_discovery.probe.verdict.unless_repeated`). ``drain`` is how long the instance stays
    listed as ``draining`` before it leaves; ``child_grace`` how long a child has to end after
    SIGTERM.

    ``server_token``, or what ``server_token_file`` holds, is the bearer token for the MCP server
    itself: it is sent to that server only. The file is read when the sidecar starts, and followed.
    ``server_headers`` are sent there besides.
    ``health_token``, or what ``health_token_file`` holds, is the one for ``health_url``; without it
    a health URL of the server's own origin gets the server's. ``server_ca`` is the PEM file of the
    CA of the server's certificate, followed as well; ``server_name`` is the name in it, where that
    is not the host in ``url``.

    ``command`` starts the MCP server as a child. Without a ``url`` it speaks stdio, and is served
    over HTTP at ``listen``, HOST:PORT (default: a free port at the advertised address);
    ``allowed_hosts`` are the names by which clients call it, besides addresses. Who may come in is
    said by ``bridge_token_file`` (one token a line, followed), ``bridge_client_ca`` (with
    ``bridge_cert`` and ``bridge_key``, for TLS), or ``bridge_open``: anybody;
    ``sessions`` says whether its sessions are ``shared``, have a process ``each``, or, with
    ``auto``, only those whose clients can be asked something; ``max_sessions`` there may be
    (default: 1000, of which 32 have a process), and each ends after ``idle_timeout`` without its
    client. Its processes are given the variables that ``env`` names and those in ``env_file``, and
    run in ``cwd``; ``memory_max`` (bytes), ``cpu_seconds`` and ``restart_after`` (default: 60) are
    what they are ended for, as :class:`~mcp_discovery.program.Program` says. ``health_port`` is
    where the sidecar answers ``/healthz``, ``/readyz`` and ``/drain`` itself, on ``health_host``.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` with one sentence that says what to
    mend.
    """

    url: str = ""
    kind: str = SERVER
    transport: str = "streamable-http"
    advertise_url: str | None = None
    name: str | None = None
    id: str | None = None
    registry_name: str | None = None
    title: str | None = None
    description: str | None = None
    version: str | None = None
    tags: tuple[str, ...] = ()
    example_queries: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1
    zone: str | None = None
    owner: str | None = None
    auth: Auth | None = None
    try_advertised: bool = True
    health_url: str | None = None
    server_token: str | None = field(default=None, repr=False)
    server_token_file: str | None = None
    server_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    server_ca: str | None = None
    server_name: str | None = None
    health_token: str | None = field(default=None, repr=False)
    health_token_file: str | None = None
    ttl: float = 10.0
    reap_after: float = 300.0
    probe_interval: float | None = None
    slow_after: float | None = None
    fail_after: int | None = None
    introspect_timeout: float = 30.0
    drain: float = 5.0
    child_grace: float = 5.0
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    command: tuple[str, ...] = ()
    listen: str | None = None
    sessions: str = "auto"
    max_sessions: int | None = None
    idle_timeout: float = 1800.0
    allowed_hosts: tuple[str, ...] = ()
    bridge_token_file: str | None = None
    bridge_cert: str | None = None
    bridge_key: str | None = None
    bridge_client_ca: str | None = None
    bridge_open: bool = False
    env: tuple[str, ...] = ()
    env_file: str | None = None
    cwd: str | None = None
    memory_max: int | None = None
    cpu_seconds: float | None = None
    restart_after: float | None = None
    #: Whether the command speaks stdio, and is served over HTTP by the sidecar itself.
    bridged: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if not self.url and self.command:
            object.__setattr__(self, "bridged", True)
            object.__setattr__(self, "url", BRIDGED)
            if self.transport == STDIO:
                object.__setattr__(self, "transport", "streamable-http")
        if self.kind == AGENT and self.transport == "streamable-http":  # the default
            object.__setattr__(self, "transport", A2A)
        raise_all(self._faults())

    def _faults(self) -> Iterator[InvalidInputError]:
        """All that is wrong, in the order in which it is told."""
        if not self.url:
            yield InvalidInputError(
                "give --url with the MCP server's URL, or the command of a server that speaks "
                "stdio after --"
            )
            return
        of_urls = list(self._url_problems())
        problems = chain(of_urls, self._time_problems(), self._other_problems())
        yield from map(InvalidInputError, problems)
        for what, text, file in (
            ("MCP server's token", self.server_token, self.server_token_file),
            ("health URL's token", self.health_token, self.health_token_file),
        ):
            try:
                if text is not None:
                    Secret(what, text, file)
            except InvalidInputError as error:
                yield error
        # The record's own rules, before the server is contacted.
        fields = self.record_fields(self.advertise_url or self.url)
        name = self.name if self.name is not None else _PLACEHOLDER
        try:
            Record.parse(fields | {"name": name}).check_names()
        except InvalidInputError as error:
            for each in (error, *error.others):
                field = each.field if isinstance(each, InvalidRecordError) else ""
                if not (of_urls and field.startswith("endpoint")):  # told by the option's name
                    yield each

    def _other_problems(self) -> Iterator[str]:
        if self.sessions not in SESSIONS:
            yield f"--sessions {self.sessions!r} is none of {', '.join(SESSIONS)}"
        if self.max_sessions is not None and self.max_sessions < 1:
            yield f"max-sessions {self.max_sessions} is none; give at least 1"
        if not self.bridged:
            for option, value in (
                ("--listen", self.listen),
                ("--max-sessions", self.max_sessions),
                ("--allowed-host", self.allowed_hosts),
                ("--bridge-open", self.bridge_open),
                *(
                    (f"--{each.replace('_', '-')}", getattr(self, each))
                    for each in (*_BRIDGE_FILES, *_OF_PROCESSES)
                ),
            ):
                if value not in (None, (), False):
                    yield (
                        f"{option} is for a command that speaks stdio, which is served over HTTP: "
                        "give a command after --, and no --url"
                    )
        for name in self.env:
            if "=" in name:
                yield (
                    f"--env {name.partition('=')[0][:40]}=… shows a value to all who see command "
                    "lines: set the variable here and give its name alone, or write NAME=VALUE "
                    "into a file for --env-file"
                )
            elif _VARIABLE.fullmatch(name) is None:
                yield f"--env {name[:40]!r} is no name of a variable, such as API_KEY"
        if self.memory_max is not None and self.memory_max < _LEAST_MEMORY:
            yield f"--memory-max {self.memory_max} bytes is too little; write 512m or 2g"
        if bool(self.bridge_cert) != bool(self.bridge_key):
            yield (
                "a certificate needs its key, and a key its certificate: give both --bridge-cert "
                "and --bridge-key"
            )
        if self.bridge_client_ca and not self.bridge_cert:
            yield "--bridge-client-ca needs TLS: give --bridge-cert and --bridge-key, too"
        if self.listen is not None and _place(self.listen) is None:
            yield f"{self.listen!r} is no HOST:PORT to listen on, such as 127.0.0.1:8000"
        if self.health_port is not None and not 0 <= self.health_port <= 65535:
            yield f"health port {self.health_port} is none; give one of 1 to 65535"
        if self.fail_after is not None and self.fail_after not in FAIL_AFTER:
            yield (
                f"fail-after {self.fail_after} is none; give a number of bad answers, "
                f"{FAIL_AFTER[0]} to {FAIL_AFTER[-1]}"
            )
        if (self.health_token or self.health_token_file) and self.health_url is None:
            yield "a token for the health URL needs one: give --health-url"

    @property
    def listen_place(self) -> tuple[str | None, int]:
        """Host and port to listen on; ``None`` where the advertised address decides."""
        return (None, 0) if self.listen is None else _place(self.listen) or (None, 0)

    def served_at(self, url: str, token: str | None, auth: Auth | None) -> SidecarSettings:
        """The settings of a sidecar beside what is served at ``url``, which lets it in with
        ``token`` and others as ``auth`` says."""
        of_bridge: dict[str, Any] = dict.fromkeys(
            ("listen", "max_sessions", *_BRIDGE_FILES, *_OF_PROCESSES)
        )
        of_bridge["env"] = ()
        return replace(
            self,
            url=url,
            auth=auth,
            server_token=token,
            allowed_hosts=(),
            bridge_open=False,
            **of_bridge,
        )

    def program(
        self,
        environ: Mapping[str, str],
        *,
        env: Mapping[str, str] | None = None,
        env_file: str | None = None,
        cwd: str | None = None,
    ) -> Program:
        """How the processes of the command are started, with the variables of ``environ`` that
        :attr:`env` names; the rest is of one server and goes before the settings.

        Raises :class:`~mcp_discovery.errors.InvalidInputError`.
        """
        raise_all(
            InvalidInputError(f"--env {name}: it is not set here; set it, or leave that out")
            for name in self.env
            if name not in environ
        )
        cwd = cwd if cwd is not None else self.cwd
        if cwd is not None and not os.path.isdir(cwd):
            raise InvalidInputError(f"{cwd!r} is no directory to run the command in")
        limited = self.memory_max is not None or self.cpu_seconds is not None
        if limited and ProcessFigures(lambda: (os.getpid(),)).read() is None:
            raise InvalidInputError(
                "--memory-max and --cpu-seconds need Linux's /proc; limit the sidecar itself, as "
                "containers do"
            )
        return Program(
            command=self.command,
            env={name: environ[name] for name in self.env} | dict(env or {}),
            env_file=env_file if env_file is not None else self.env_file,
            cwd=cwd,
            grace=self.child_grace,
            memory_max=self.memory_max,
            cpu_seconds=self.cpu_seconds,
            restart_after=RESTART_AFTER if self.restart_after is None else self.restart_after,
        )

    @property
    def process_each(self) -> bool | None:
        """Whether each session has a process for itself; ``None`` where its client decides."""
        return {"each": True, "shared": False}.get(self.sessions)

    @property
    def noun(self) -> str:
        """What it is beside, in words."""
        return "A2A agent" if self.kind == AGENT else "MCP server"

    @property
    def interval(self) -> float:
        """The time within which a failure of the MCP server shows in the store."""
        return self.probe_interval if self.probe_interval is not None else self.ttl / 3

    @property
    def heartbeat_interval(self) -> float:
        """Seconds from one heartbeat to the next without news."""
        return min(_HEARTBEAT * self.ttl, _LONGEST_HEARTBEAT)

    @property
    def slow(self) -> float:
        """How long a probe may take before the instance counts as degraded."""
        return self.slow_after if self.slow_after is not None else min(1.0, self.interval / 4)

    @property
    def has_token(self) -> bool:
        """Whether there is a token for the MCP server."""
        given = any(name.lower() == "authorization" for name in self.server_headers)
        return bool(self.server_token or self.server_token_file or given)

    def record_fields(self, url: str, health_url: str | None = None) -> dict[str, Any]:
        """The record's fields as far as they are set, with JSON's names, for endpoint ``url``."""
        values = {name: getattr(self, name, None) for name in Record.model_fields}
        values |= {
            "endpoint": {"transport": self.transport, "url": url},
            "metadata": dict(self.metadata),
            "example_queries": self.example_queries or None,
            "auth": self._auth,
            "health_url": health_url,
        }
        return {
            Record.model_fields[name].alias or name: value
            for name, value in values.items()
            if value is not None
        }

    @property
    def _auth(self) -> Auth | None:
        """What the record says of credentials; ``None``: what the agent's card says."""
        if self.auth is None and self.kind == AGENT:
            return None
        return self.auth or Auth(type="bearer" if self.has_token else "none")

    def _url_problems(self) -> Iterator[str]:
        schemes = SCHEMES.get(self.transport)
        if self.bridged:
            yield from self._bridge_problems()
        if self.transport == STDIO:
            yield "a server that speaks stdio has no URL: give its command after --, and no --url"
            schemes = SCHEMES["streamable-http"]
        elif schemes is None:
            yield f"a sidecar cannot probe transport {self.transport!r}; use {', '.join(SCHEMES)}"
            schemes = tuple(chain.from_iterable(SCHEMES.values()))
        for what, url, allowed in (
            ("the MCP server's URL", self.url, schemes),
            ("the advertised URL", self.advertise_url, schemes),
            ("the health URL", self.health_url, ("http", "https")),
        ):
            if url and (problem := url_problem(url, allowed)) is not None:
                yield f"{what}: {problem}"

        name = self.server_name
        if name is not None and not _CERTIFICATE_NAME.fullmatch(name):
            yield f"{name[:100]!r} is no name in a certificate; give a host name or an address"
        if name is not None and not _is_tls(self.url):
            yield "--server-name is for a URL that begins with https:// or wss://"
        if self.server_ca is not None and not any(
            map(_is_tls, (self.url, self.health_url, self.advertise_url))
        ):
            yield "--server-ca is for https:// and wss://, and no URL begins so"

    def _bridge_problems(self) -> Iterator[str]:
        """What is said of a server of HTTP, and cannot be of one that speaks stdio."""
        why = "a command without --url speaks stdio, and is served as streamable HTTP"
        if self.kind == AGENT:
            yield "an A2A agent speaks HTTP: give --url with where its card is"
        elif self.transport != "streamable-http":
            yield f"{why}: leave out --transport {self.transport}, or give its --url"
        for option, given in (
            ("--server-token", self.has_token),
            ("--server-ca", self.server_ca),
            ("--server-name", self.server_name),
        ):
            if given:
                yield f"{why}: leave out {option}, or give its --url"

    def _time_problems(self) -> Iterator[str]:
        for name, value, least in (
            ("ttl", self.ttl, 1.0),
            ("probe interval", self.probe_interval, 0.1),
            ("slow-after time", self.slow_after, 0.0),
            ("drain time", self.drain, 0.0),
            ("child's grace", self.child_grace, 0.0),
            ("introspection time-out", self.introspect_timeout, 0.1),
            ("idle time-out", self.idle_timeout, 1.0),
            ("processor time", self.cpu_seconds, 1.0),
            ("restart-after time", self.restart_after, 0.0),
        ):
            if value is not None and (not math.isfinite(value) or value < least):
                yield f"{name} {value:g} s is too short; give at least {least:g} s"
        if not math.isfinite(self.reap_after) or self.reap_after < self.ttl:
            yield f"reap-after {self.reap_after:g} s must be at least the TTL, {self.ttl:g} s"
        if self.interval > self.ttl / 2:
            yield (
                f"probe interval {self.interval:g} s must be at most half of the TTL, "
                f"{self.ttl:g} s, so that one late heartbeat does not cost the registration"
            )


def _place(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        return None
    return host.strip("[]"), int(port)


def _is_tls(url: str | None) -> bool:
    return url is not None and urlsplit(url).scheme in ("https", "wss")


def public(url: str) -> str:
    """``url`` for logs: without user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
