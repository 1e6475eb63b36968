"""What the fakes of the three model APIs have in common: a script, a server, and a close look.

A fake says what its script says, in its API's own wire format. What it sends is read with the types
of that API's SDK, none of whose fields may be missing, and which may have no others; so is what it
is sent. So a fake cannot drift from the SDK that it stands before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias

import pytest
from aiohttp import web
from pydantic import BaseModel

#: The name of a call that stands for the search for tools, whatever it is called in the request.
SEARCH = "<search>"


#: Calls of one turn, each a tool's name and its arguments.
Calls: TypeAlias = tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Says:
    """A turn: a text and calls; ``stop`` is the API's own word for why it ends, if not for the
    usual reason. ``raw`` are written instead of the arguments of the calls."""

    text: str = ""
    calls: Calls = ()
    stop: str | None = None
    why: str = ""
    usage: tuple[int, int] = (1000, 50)
    raw: str | None = None


@dataclass(frozen=True)
class Fails:
    """No turn: a status, with its headers, and the API's own word for the fault."""

    status: int
    kind: str = "server_error"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FailsLate:
    """A turn that ends with an error in the middle of its stream."""

    text: str = "I was about to"
    kind: str = "server_error"


@dataclass(frozen=True)
class Breaks:
    """A turn whose connection is cut after its text."""

    text: str = "I was about to"


@dataclass(frozen=True)
class Hangs:
    """A turn that says ``text`` and goes on for ever."""

    text: str = "Wait"


Planned: TypeAlias = Says | Fails | FailsLate | Breaks | Hangs


class FakeModelServer:
    """A server on loopback; ``requests`` are those that it has had."""

    path: ClassVar[str]
    #: What the SDK reads its address and its key from.
    variables: ClassVar[tuple[str, str]]
    provider: ClassVar[str]

    def __init__(self, *script: Planned) -> None:
        self.script = list(script)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        #: Set when a client has left a turn that hangs.
        self.left = asyncio.Event()
        self.url = ""
        self._faults: list[Exception] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serves while the block lasts."""
        app = web.Application(client_max_size=2**24)
        app.router.add_post(self.path, self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
        if self._faults:  # the agent has taken them for the API's own
            raise self._faults[0]

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Makes it what this process's SDK speaks to."""
        address, key = self.variables
        monkeypatch.setenv(address, self.base_url)
        monkeypatch.setenv(key, "key-of-a-fake")

    @property
    def base_url(self) -> str:
        """The URL that the SDK is given."""
        return self.url

    # -- what an API has of its own --------------------------------------------------------------

    def check(self, request: dict[str, Any]) -> str | None:
        """Why the API would refuse ``request``; raises where its types do."""
        raise NotImplementedError

    def events(self, planned: Says | FailsLate | Breaks | Hangs) -> Iterator[tuple[str, Any]]:
        """The events of a turn, by their names; for one that breaks off those before that."""
        raise NotImplementedError

    def fault(self, planned: Fails | str) -> dict[str, Any]:
        """The body of an error."""
        raise NotImplementedError

    def frame(self, name: str, data: Any) -> bytes:
        """One event as it is sent."""
        return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()

    # -- answering -------------------------------------------------------------------------------

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        try:
            return await self._answered(http)
        except (AssertionError, ValueError) as fault:
            self._faults.append(fault)
            raise

    async def _answered(self, http: web.Request) -> web.StreamResponse:
        request = await http.json()
        self.requests.append(request)
        self.headers.append({name.lower(): value for name, value in http.headers.items()})
        if (why := self.check(request)) is not None:
            return web.json_response(self.fault(why), status=400)
        planned = self.script.pop(0) if self.script else Fails(400, "the script is over")
        if isinstance(planned, Fails):
            fault = self.fault(planned)
            return web.json_response(fault, status=planned.status, headers=planned.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(http)
        for name, data in self.events(planned):
            await response.write(self.frame(name, data))
        match planned:
            case Breaks():
                assert http.transport is not None
                http.transport.abort()
            case Hangs():
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left.set()
        return response


def checked(found: BaseModel) -> Any:
    """``found`` as JSON; fails for what its type does not know."""
    for path, model in _models(found):
        assert not model.model_extra, f"{path or type(model).__name__} has {model.model_extra}"
    return found.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _models(value: object, path: str = "") -> Iterator[tuple[str, BaseModel]]:
    match value:
        case BaseModel():
            yield path, value
            for name in type(value).model_fields:
                yield from _models(getattr(value, name), f"{path}.{name}")
        case list() | tuple():
            for number, each in enumerate(value):
                yield from _models(each, f"{path}[{number}]")


def pieces(text: str) -> list[str]:
    """``text`` in pieces, as models say it."""
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def consumed(value: Any) -> Any:
    """``value`` with everything in it that pydantic reads only when it is asked for."""
    match value:
        case str() | bytes() | None:
            return value
        case Mapping():
            return {name: consumed(each) for name, each in value.items()}
        case Iterable():
            return [consumed(each) for each in value]
    return value
