"""Why a probe failed, in sentences that can be shown as a health reason.

ProbeError
├── UnreachableError   no connection, or the connection died before the answer was whole
├── NoAnswerError      connected perhaps, but nothing came within the deadline
├── BadAnswerError     an answer came, and it is not what an MCP server says
├── NotAskedError      an agent whose card is all that can be asked for
└── NotOkError         a plain HTTP health endpoint answered with another status than 2xx
"""

from __future__ import annotations

from collections.abc import Iterable

from mcp_discovery.errors import DiscoveryError

CREDENTIAL_STATUSES = frozenset({401, 403, 407})


class ProbeError(DiscoveryError):
    """A probe that did not succeed; ``str()`` is one sentence without secrets.

    The originals (socket errors, parse errors) are chained as ``__cause__``. ``retry_after`` is for
    how many seconds the server does not want to be asked again, where it says so.
    """

    retry_after: float | None = None

    def conceal(self, secrets: Iterable[str]) -> None:
        """Blank each of ``secrets`` in the sentence, longest first: servers echo what they got."""
        sentence = str(self)
        for secret in sorted(secrets, key=len, reverse=True):
            sentence = sentence.replace(secret, "***")
        self.args = (sentence,)


class UnreachableError(ProbeError):
    """No connection could be made or, with ``was_connected``, one broke before the whole answer."""

    def __init__(self, reason: str, *, was_connected: bool = False) -> None:
        super().__init__(reason)
        self.was_connected = was_connected


class AddressRefusedError(DiscoveryError, OSError):
    """An address to which the caller's connector does not connect; ``str()`` is the reason.

    A connector raises it where it resolves a name or makes a socket; the probe shows it as
    ``UnreachableError``.
    """


class NoAnswerError(ProbeError):
    """Nothing complete came within ``timeout`` seconds, to ``method`` where that is given."""

    def __init__(self, timeout: float, method: str | None = None) -> None:
        to = f" to {method}" if method else ""
        super().__init__(f"no answer{to} within {timeout:g} s")
        self.timeout = timeout


class BadAnswerError(ProbeError):
    """The server answered, and the answer is an error or is not MCP.

    ``status`` is the HTTP status and ``code`` the JSON-RPC error code, where there was one;
    ``versions`` are the protocol versions that the server named in a refusal; ``refuses_host`` says
    that it does not know the host name in the URL, ``over_limit`` that the answer was cut off
    because it exceeded a limit, ``misaddressed`` that it bore another id than the request.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        code: int | None = None,
        versions: tuple[str, ...] = (),
        over_limit: bool = False,
        refuses_host: bool = False,
        misaddressed: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.versions = versions
        self.over_limit = over_limit
        self.refuses_host = refuses_host
        self.misaddressed = misaddressed
        self.retry_after = retry_after

    @property
    def wants_credentials(self) -> bool:
        """True when the server refused for want of credentials."""
        return self.status in CREDENTIAL_STATUSES and not self.refuses_host


class NotAskedError(ProbeError):
    """An agent answers with its card, and nothing that it names there can be asked whether it
    lives."""


class NotOkError(ProbeError):
    """A health endpoint answered with an HTTP status outside 2xx.

    ``signed`` says that the request carried credentials; ``retry_after`` is in seconds.
    """

    def __init__(
        self, status: int, *, signed: bool = False, retry_after: float | None = None
    ) -> None:
        refused = signed and status in CREDENTIAL_STATUSES
        what = "refuses the credentials with" if refused else "answered"
        super().__init__(f"the health endpoint {what} HTTP {status}")
        self.status = status
        self.signed = signed
        self.retry_after = retry_after

    @property
    def wants_credentials(self) -> bool:
        """True when the endpoint asked for credentials, and the request carried none."""
        return self.status in CREDENTIAL_STATUSES and not self.signed
