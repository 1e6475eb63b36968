"""Which era of MCP a server speaks, what it says of itself at once, and its notifications."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import orjson

from mcp_discovery.mcp_messages import (
    METHOD_NOT_FOUND,
    MODERN,
    SERVER_INFO_KEY,
    UNSUPPORTED_VERSION,
)
from mcp_discovery.probe.errors import BadAnswerError, UnreachableError
from mcp_discovery.probe.introspection import encodable
from mcp_discovery.probe.messages import (
    CLIENT_CAPABILITIES,
    LATEST_LEGACY,
    client_info,
    legacy_call,
    legacy_headers,
    modern_call,
    parse,
    result_of,
    strings,
)
from mcp_discovery.probe.wire import Budget, Limits, Wire

_INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'

# With these statuses the server says something about itself now, and nothing about its era.
_NO_ERA_VERDICT = frozenset({401, 403, 407, 429, 502, 503, 504})

_CHANGED = {
    "notifications/tools/list_changed": "tools",
    "notifications/resources/list_changed": "resources",
    "notifications/prompts/list_changed": "prompts",
}
_SUBSCRIBED = {
    "notifications": {
        "toolsListChanged": True,
        "resourcesListChanged": True,
        "promptsListChanged": True,
    }
}
_REPLY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Peer:
    """What a server said when asked who it is.

    ``protocol`` is the version to speak with it, None when a legacy server named none.
    """

    era: str
    protocol: str | None
    versions: tuple[str, ...]
    server_info: dict[str, Any]
    instructions: str | None
    capabilities: dict[str, Any]
    findings: tuple[str, ...]


Renewal = tuple[float, float]
"""Seconds of silence after which a question is withdrawn, and seconds until it is asked again."""


async def find_era(
    wire: Wire, limits: Limits, patience: float, renewals: Iterable[Renewal] = ()
) -> Peer:
    """Ask ``server/discover`` and fall back to ``initialize``.

    Some legacy servers never answer a method that they do not know. After ``patience`` seconds
    of silence ``initialize`` is tried as well, and the first positive answer counts; a slow
    modern server still wins, because it was asked first.

    A server that hung may have forgotten what it was asked then. ``renewals`` say after how many
    seconds of silence to withdraw ``server/discover``, and how many later to ask it again; where
    they end, it is waited for. One connection that ends at ``server/discover`` is opened again for
    ``initialize``. ``initialize`` opens a session and is never withdrawn: one that is
    unanswered is waited for beside, and at most two questions are open at any time.

    Raises UnreachableError or BadAnswerError; the caller sets the deadline.
    """
    tasks: list[asyncio.Task[Peer]] = []

    def begin(asking: Coroutine[Any, Any, Peer]) -> asyncio.Task[Peer]:
        tasks.append(asyncio.create_task(asking, name="mcp-probe-handshake"))
        return tasks[-1]

    legacy: asyncio.Task[Peer] | None = None
    renewed = withdrawn = False
    try:
        modern = begin(discover(wire, limits))
        if not wire.has_unfinished and not await _answered(modern, None, patience):
            legacy = begin(initialize(wire, limits))
        for silence, pause in renewals:
            if await _answered(modern, legacy, silence):
                break
            withdrawn = modern.cancel()
            if await _answered(None, legacy, pause):
                break
            modern, renewed, withdrawn = begin(discover(wire, limits)), True, False
        if not withdrawn:
            await _answered(modern, legacy, None)
        if legacy is not None and (withdrawn or not modern.done()):
            return legacy.result()
        try:
            peer = modern.result()
        except (BadAnswerError, UnreachableError) as refusal:
            if not _may_be_legacy(refusal):
                raise
            if reopened := wire.is_one_connection and isinstance(refusal, UnreachableError):
                await wire.open()
            last = legacy
            if last is None or renewed or reopened:
                last = begin(initialize(wire, limits))
            await _answered(last, legacy, None)
            try:
                return (last if last.done() or legacy is None else legacy).result()
            except BadAnswerError as error:
                if isinstance(refusal, BadAnswerError) and refusal.misaddressed:
                    raise refusal from error  # it does speak this era, and answers nobody
                raise error from refusal
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if wire.has_session and not wire.is_one_connection:
        await wire.close()  # it was opened by the question that came second
    return peer


async def _answered(
    first: asyncio.Task[Peer] | None, other: asyncio.Task[Peer] | None, within: float | None
) -> bool:
    """Whether ``first`` has ended, or ``other`` well, ``within`` seconds; waits as long if not."""
    loop = asyncio.get_running_loop()
    end = math.inf if within is None else loop.time() + within
    waiting = {task for task in (first, other) if task is not None}
    while (left := end - loop.time()) > 0:
        timeout = None if math.isinf(left) else left
        if not waiting:
            await asyncio.sleep(left)
            break
        done, waiting = await asyncio.wait(
            waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if any(task is first or task.exception() is None for task in done):
            return True
    return False


def _may_be_legacy(refusal: BadAnswerError | UnreachableError) -> bool:
    if isinstance(refusal, UnreachableError):
        return refusal.was_connected  # handmade servers stumble over methods they do not know
    return not refusal.over_limit and refusal.status not in _NO_ERA_VERDICT


async def discover(wire: Wire, limits: Limits, protocol: str = MODERN) -> Peer:
    """Ask a modern server who it is.

    Raises BadAnswerError when the server is not modern, UnreachableError when it cannot be asked.
    """
    call = modern_call("server/discover", wire.next_id(), protocol=protocol)
    try:
        answer = await wire.ask(call, Budget(limits))
    except BadAnswerError as refusal:
        # The server names what it speaks: a later revision than ours is still of this era.
        newer = max((v for v in refusal.versions if v > MODERN and _usable(v)), default=None)
        if refusal.code != UNSUPPORTED_VERSION or newer is None or protocol != MODERN:
            raise
        return await discover(wire, limits, newer)
    result = result_of(answer, call.method)
    versions = strings(result.get("supportedVersions"))
    findings = []
    if not any(version >= MODERN for version in versions):
        if versions or not isinstance(result.get("capabilities"), dict):
            raise BadAnswerError("answered server/discover without a version of the modern era")
        findings.append("server/discover answered without 'supportedVersions'")
    meta = result.get("_meta")
    info = meta.get(SERVER_INFO_KEY) if isinstance(meta, dict) else None
    return _peer("modern", protocol, versions, info, result, findings)


async def initialize(wire: Wire, limits: Limits) -> Peer:
    """Do the legacy handshake.

    Raises BadAnswerError when the server refuses it, UnreachableError when it cannot be asked.
    """
    params = {
        "protocolVersion": LATEST_LEGACY,
        "capabilities": CLIENT_CAPABILITIES,
        "clientInfo": client_info(),
    }
    call = legacy_call("initialize", wire.next_id(), params)
    result = result_of(await wire.ask(call, Budget(limits)), call.method)
    if not any(key in result for key in ("protocolVersion", "capabilities", "serverInfo")):
        raise BadAnswerError("answered, but not MCP: the result of initialize says nothing")
    protocol = result.get("protocolVersion")
    findings = []
    if not isinstance(protocol, str) or not _usable(protocol):
        findings.append("initialize answered without a usable 'protocolVersion'")
        protocol = None
    versions, info = (protocol,) if protocol else (), result.get("serverInfo")
    peer = _peer("legacy", protocol, versions, info, result, findings)
    with suppress(BadAnswerError):
        # Whether the server minds is seen at the next request; a refused notification alone
        # harms nobody.
        await wire.notify(_INITIALIZED, legacy_headers(peer.protocol))
    return peer


def _usable(version: str) -> bool:
    """Whether ``version`` can go into a header."""
    return bool(version) and version.isascii() and version.isprintable()


def _peer(
    era: str,
    protocol: str | None,
    versions: tuple[str, ...],
    info: Any,
    result: dict[str, Any],
    findings: list[str],
) -> Peer:
    capabilities = result.get("capabilities")
    instructions = result.get("instructions")
    if not encodable(result):
        raise BadAnswerError(
            "answered, but not MCP: the description of the server nests too deeply"
        )
    if not isinstance(info, dict):
        findings.append("the server does not say its name and version")
    if not isinstance(capabilities, dict):
        findings.append("the server does not say its capabilities")
    return Peer(
        era=era,
        protocol=protocol,
        versions=versions,
        server_info=info if isinstance(info, dict) else {},
        instructions=instructions if isinstance(instructions, str) else None,
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        findings=tuple(findings),
    )


async def changed_lists(wire: Wire, peer: Peer) -> AsyncGenerator[str, None]:
    """Yield the name of each list that ``peer`` says has changed, until its stream ends.

    Legacy servers may ask something of their clients on the same stream; they get their answer.
    Raises BadAnswerError, UnreachableError, or TimeoutError when such an answer does not arrive.
    """
    method = "subscriptions/listen"
    if peer.era == "modern":
        call = modern_call(method, wire.next_id(), _SUBSCRIBED, protocol=peer.protocol or "")
        messages = wire.listen(call.headers, call)
    else:
        messages = wire.listen(legacy_headers(peer.protocol), None)
    async with aclosing(messages):
        async for raw in messages:
            decoded = parse(raw)
            for message in decoded if isinstance(decoded, list) else [decoded]:
                if not isinstance(message, dict):
                    continue
                name = message.get("method")
                if isinstance(name, str) and name in _CHANGED:
                    yield _CHANGED[name]
                elif name is not None and message.get("id") is not None and peer.era == "legacy":
                    await _reply(wire, peer, message["id"], name)


async def _reply(wire: Wire, peer: Peer, request_id: Any, method: Any) -> None:
    """Answer a ping with a pong, and refuse anything else."""
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id}
    if method == "ping":
        reply["result"] = {}
    else:
        reply["error"] = {"code": METHOD_NOT_FOUND, "message": "this client only probes"}
    async with asyncio.timeout(_REPLY_SECONDS):
        await wire.notify(orjson.dumps(reply), legacy_headers(peer.protocol))
