"""The settings of a client: the options of :class:`~mcp_discovery.client.Discovery`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import httpx2
from mcp.client import Transport
from mcp.client.session import ElicitationFnT, ListRootsFnT, SamplingFnT
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import Implementation, LoggingLevel, LoggingMessageNotificationParams

from mcp_discovery.balancing import STRATEGIES, USUAL, Strategy
from mcp_discovery.client.credentials import Credentials
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.instance import Instance
from mcp_discovery.nearest import nearest

log = logging.getLogger(__name__)

#: Credentials by a server's name, or what finds them; of several those for its origin are used.
Auth = (
    Mapping[str, Credentials | Sequence[Credentials]]
    | Callable[[Instance], Credentials | Sequence[Credentials] | None]
)
#: Whether an instance, or its tool of that name, exists for a client.
Permits = Callable[[Instance, str | None], bool]
#: Checks the URL of each request to a server; raises ``OSError`` to refuse it.
Guard = Callable[[httpx2.URL], Awaitable[None]]
#: A transport of the SDK's to an instance, not connected yet.
TransportTo = Callable[[Instance], Transport]
OnLog = Callable[[Instance, LoggingMessageNotificationParams], Awaitable[None]]
#: Receives a call's progress: ``progress``, ``total`` and ``message``.
OnProgress = ProgressFnT

#: The largest answer that is taken, in bytes, unless another limit is set.
MAX_ANSWER = 64 * 2**20

_REFERENCE = re.compile(r"\$\{(\w+)\}")


def _bound(given: object, where: str) -> Sequence[Credentials]:
    """``given`` as credentials; raises :class:`InvalidInputError` for what has no origin."""
    found = given if isinstance(given, list | tuple) else () if given is None else (given,)
    if not all(isinstance(each, Credentials) for each in found):
        raise InvalidInputError(
            f"{where} is bound to no origin, and whoever registers that name would get it; write "
            "Credentials(token, origin='https://payments.example.com')"
        )
    return found


def require_choice(what: str, given: object, choices: Sequence[str]) -> None:
    """Raises :class:`InvalidInputError`, naming the nearest, unless ``given`` is a choice."""
    if given not in choices:
        near = nearest(str(given), choices)
        hint = f"; did you mean {near!r}?" if near else ""
        known = (
            f"is none of {', '.join(choices)}" if choices else "is not known; it takes no options"
        )
        raise InvalidInputError(f"{what} {given!r} {known}{hint}")


@dataclass(frozen=True)
class ClientSettings:
    """The options of ``Discovery``, which documents them; times in seconds."""

    strategy: Strategy = USUAL
    deadline: float = 30.0
    deadlines: Mapping[str, float] = field(default_factory=dict)
    patience: float = 5.0
    connect_timeout: float = 5.0
    hold: float = 10.0
    max_answer_bytes: int = MAX_ANSWER
    allow_stdio: frozenset[str] = frozenset()
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    auth: Auth | None = field(default=None, repr=False)
    guard: Guard | None = None
    permits: Permits | None = None
    transport: TransportTo | None = None
    client_info: Implementation | None = None
    on_log: OnLog | None = None
    log_level: LoggingLevel | None = None
    on_elicit: ElicitationFnT | None = None
    on_sample: SamplingFnT | None = None
    list_roots: ListRootsFnT | None = None

    def __post_init__(self) -> None:
        """Raises :class:`InvalidInputError` for what cannot be used."""
        require_choice("strategy", self.strategy, STRATEGIES)
        times = {"deadline": self.deadline, "connect_timeout": self.connect_timeout}
        times |= {f"deadlines[{name!r}]": each for name, each in self.deadlines.items()}
        for name, seconds in times.items():
            if not 0 < seconds < float("inf"):
                raise InvalidInputError(f"{name}={seconds!r} is not a number of seconds above 0")
        for name in ("patience", "hold"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidInputError(f"{name} is not a number of seconds, 0 or more")
        if type(self.max_answer_bytes) is not int or self.max_answer_bytes < 1:
            given = self.max_answer_bytes
            raise InvalidInputError(f"max_answer_bytes={given!r} is not a number of bytes above 0")
        for server, found in () if not self.auth or callable(self.auth) else self.auth.items():
            _bound(found, f"auth[{server!r}]")
        if self.log_level is not None:
            require_choice("log_level", self.log_level, get_args(LoggingLevel))

    def deadline_of(self, server: str) -> float:
        """How long one instance of ``server`` may take to answer a call."""
        return self.deadlines.get(server, self.deadline)

    def auth_of(self, instance: Instance) -> httpx2.Auth | None:
        """What adds the credentials for ``instance`` to requests, where there are any for its
        origin.

        Raises :class:`InvalidInputError` where a function finds what is bound to no origin.
        """
        url = instance.record.endpoint.url
        if self.auth is None or url is None:
            return None
        name = instance.record.name
        found = self.auth(instance) if callable(self.auth) else self.auth.get(name)
        known = _bound(found, f"auth({name})")
        for each in known:
            if each.origins.include(url):
                return each.auth
        if known:
            origins = ", ".join(str(each.origins) for each in known)
            log.warning(
                "%s is at %s; the credentials for %s are for %s, and are not sent there",
                *(instance.id, url, name, origins),
            )
        return None

    def command_of(self, instance: Instance) -> tuple[str, list[str], dict[str, str] | None]:
        """What starts a ``stdio`` server: the command, its arguments, what to add to the
        environment; ``${NAME}`` in them is filled in.

        Raises :class:`InvalidInputError` where a variable is not set.
        """
        known = {**os.environ, **(self.environment or {})}

        def filled(text: str) -> str:
            for name in _REFERENCE.findall(text):
                if name not in known:
                    raise InvalidInputError(
                        f"{instance.record.name} is started with ${{{name}}}, which is not set in "
                        "the environment; set it"
                    )
            return _REFERENCE.sub(lambda match: known[match[1]], text)

        endpoint = instance.record.endpoint
        own = dict(self.environment) if self.environment is not None else None
        return filled(endpoint.command or ""), [filled(each) for each in endpoint.args], own
