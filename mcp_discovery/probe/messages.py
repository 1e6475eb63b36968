"""The JSON-RPC messages of MCP's two eras: how a probe asks and what an answer says.

Legacy is every revision up to 2025-11-25 (``initialize`` handshake); modern is 2026-07-28 and
later (no handshake: each request carries its envelope in ``params._meta`` and in headers).
https://modelcontextprotocol.io/specification/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson

from mcp_discovery.connection_errors import wants_tls
from mcp_discovery.json_values import count_values
from mcp_discovery.mcp_messages import MODERN
from mcp_discovery.probe.errors import CREDENTIAL_STATUSES, BadAnswerError
from mcp_discovery.quoted import quoted
from mcp_discovery.version import installed_version

LATEST_LEGACY: Final = "2025-11-25"

#: The extension of skills (SEP-2640), and what probes say that they understand: some servers have
#: their skills for clients alone that know what these are.
SKILLS_EXTENSION: Final = "io.modelcontextprotocol/skills"
CLIENT_CAPABILITIES: Final[Mapping[str, Any]] = {"extensions": {SKILLS_EXTENSION: {}}}

#: The finding about a server that answers the request 1 with the id "1".
IDS_AS_STRINGS: Final = "answers bear the requests' ids as strings instead of as numbers"


@dataclass(frozen=True, slots=True)
class McpCall:
    """An encoded request. Its id is a whole number, because some bridges understand no other, and
    is used once: https://modelcontextprotocol.io/specification/2025-11-25/basic#requests"""

    method: str
    id: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class PickedAnswer(NamedTuple):
    """What was found for one request among the messages that came.

    ``message`` is its answer, if that is there; ``as_string`` says that it bears the request's id
    as a string. Otherwise ``misaddressed`` says whether there is an answer with another id, which
    is ``other_id``.
    """

    message: dict[str, Any] | None
    as_string: bool = False
    misaddressed: bool = False
    other_id: Any = None


@cache
def client_info() -> dict[str, str]:
    """Return how the probe introduces itself to servers."""
    return {"name": "mcp-discovery", "version": installed_version()}


def modern_call(
    method: str, call_id: int, params: Mapping[str, Any] | None = None, *, protocol: str = MODERN
) -> McpCall:
    """Encode a request of the modern era with its envelope and routing headers."""
    envelope = {
        "io.modelcontextprotocol/protocolVersion": protocol,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": CLIENT_CAPABILITIES,
    }
    body = {
        "jsonrpc": "2.0",
        "id": call_id,
        "method": method,
        "params": {**(params or {}), "_meta": envelope},
    }
    headers = {"MCP-Protocol-Version": protocol, "Mcp-Method": method}
    return McpCall(method, call_id, orjson.dumps(body), headers)


def legacy_call(
    method: str,
    call_id: int,
    params: Mapping[str, Any] | None = None,
    *,
    protocol: str | None = None,
) -> McpCall:
    """Encode a request of the legacy era; ``protocol`` is the negotiated version, once known."""
    # Params may be left out when empty, but handmade servers tend to rely on them.
    body = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": dict(params or {})}
    return McpCall(method, call_id, orjson.dumps(body), legacy_headers(protocol))


def legacy_headers(protocol: str | None) -> dict[str, str]:
    """Return the headers that a legacy request carries after the handshake."""
    return {"MCP-Protocol-Version": protocol} if protocol else {}


#: How many JSON values one answer may hold.
_MOST_VALUES = 500_000


def parse(raw: bytes, protocol: str = "MCP", most: int = _MOST_VALUES) -> Any:
    """Decode JSON; raises BadAnswerError when ``raw`` is none, or has over ``most`` values."""
    if count_values(raw, most) > most:
        raise BadAnswerError(
            f"answered with more than {most:,} JSON values at once", over_limit=True
        )
    try:
        return orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise BadAnswerError(f"answered, but not {protocol}: the body is not JSON") from error


def answer_in(decoded: Any, call_id: int) -> PickedAnswer:
    """Pick the answer to ``call_id`` out of a message or a batch of messages."""
    candidates = decoded if isinstance(decoded, list) else [decoded]
    answers = [message for message in candidates if is_answer(message)]
    for message in answers:
        if is_id(given := message.get("id"), call_id):
            return PickedAnswer(message, as_string=isinstance(given, str))
    for message in answers:
        # An error that could not be tied to its request has a null id by JSON-RPC 2.0 §5.
        if message.get("error") is not None and message.get("id") is None:
            return PickedAnswer(message)
    if not answers:
        return PickedAnswer(None)
    return PickedAnswer(None, misaddressed=True, other_id=answers[0].get("id"))


def is_answer(message: Any) -> bool:
    """Whether ``message`` answers a request."""
    return (
        isinstance(message, dict)
        and "method" not in message
        and ("result" in message or "error" in message)
    )


def is_id(given: Any, call_id: int) -> bool:
    """Whether ``given`` stands for ``call_id``: some servers answer 1 with "1"."""
    if isinstance(given, str):
        return given == str(call_id)
    return isinstance(given, int | float) and not isinstance(given, bool) and given == call_id


def misaddressed(method: str, other_id: Any) -> BadAnswerError:
    """What to raise for an answer to ``method`` that bears another id than the request.

    Numbers are not in the sentence, which would be another one at every probe.
    """
    which = "id null" if other_id is None else "another id"
    sentence = f"answered {method} with {which} instead of the request's"
    return BadAnswerError(sentence, misaddressed=True)


def result_of(message: dict[str, Any], method: str) -> dict[str, Any]:
    """Return an answer's result; raises BadAnswerError when it is an error or no object."""
    if message.get("error") is not None:
        raise rpc_error(message["error"], method)
    result = message.get("result")
    if not isinstance(result, dict):
        raise BadAnswerError(f"answered, but not MCP: the result of {method} is not an object")
    return result


def rpc_error(error: Any, method: str, status: int | None = None) -> BadAnswerError:
    """Turn a JSON-RPC error object into an exception."""
    fields = error if isinstance(error, dict) else {"message": error}
    code = fields.get("code")
    data = fields.get("data")
    named = data.get("supported") if isinstance(data, dict) else None
    message = quoted(fields.get("message"))
    where = f"error {code}" if isinstance(code, int) else "an error"
    via = f" with HTTP {status}" if status is not None else ""
    return BadAnswerError(
        f"answered {method} with {where}{via}{': ' + message if message else ''}",
        status=status,
        code=code if isinstance(code, int) else None,
        versions=strings(named),
    )


#: How what was asked is called in a reason.
MCP_ENDPOINT = "the MCP endpoint"
WANTS_TLS = "it speaks TLS there; write https:// or wss:// in its URL"
#: How servers call a Host header that they do not know, and with which status besides 421.
_BAD_HOST = re.compile(
    rb"\b(invalid|disallowed|untrusted|unknown|unrecognized)[ _-]?host\b"
    rb"|\bhost\b.{0,100}\bnot allowed\b|\bonly allowed at\b",
    re.IGNORECASE | re.DOTALL,
)
_REFUSES_HOST = frozenset({400, 403})


def status_error(
    status: int, body: bytes, method: str, place: str = MCP_ENDPOINT
) -> BadAnswerError:
    """Turn an HTTP error status (and the beginning of its body) into an exception."""
    answer = f"HTTP {status} from {place}"
    if status == HTTPStatus.MISDIRECTED_REQUEST or (
        status in _REFUSES_HOST and _BAD_HOST.search(body) is not None
    ):
        why = f"{answer}: it does not accept the host name that it was asked by"
        return BadAnswerError(why, status=status, refuses_host=True)
    if wants_tls(status, body):
        return BadAnswerError(WANTS_TLS, status=status)
    if status in CREDENTIAL_STATUSES:
        return BadAnswerError(f"{answer}: it wants credentials", status=status)
    if status == HTTPStatus.LOOP_DETECTED:
        return BadAnswerError(f"{answer}: it leads to a facade", status=status)
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        decoded = None
    if isinstance(decoded, dict) and decoded.get("jsonrpc") and decoded.get("error") is not None:
        return rpc_error(decoded["error"], method, status)
    return BadAnswerError(answer, status=status)


def strings(value: Any) -> tuple[str, ...]:
    """Return the strings of a list, and nothing of anything else."""
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()
