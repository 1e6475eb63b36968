"""Processes of a legacy server for modern clients that it may ask something: each works for one
request at a time, so that it is known whom it asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, NamedTuple

from mcp_discovery.mcp_messages import INTERNAL_ERROR, LEGACY, JsonRpcError
from mcp_discovery.sidecar.bridge.audience import SharedAudience
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.connection import Params
from mcp_discovery.sidecar.bridge.eras import Spoken
from mcp_discovery.sidecar.bridge.questions import CallOverError, QuestionedCall

#: Seconds that a request waits for a process that worked for its client before, and may keep
#: something for it, until it is given another one.
_LOYALTY: Final = 1.0
#: Seconds that it waits for any process at all.
_PATIENCE: Final = 30.0
#: Seconds without a request after which a process is ended, at most.
_IDLE: Final = 300.0


class AskedClient(NamedTuple):
    """A modern client, as far as its requests tell: those of equal ``key`` may be of one."""

    key: Hashable
    capabilities: Mapping[str, Any]
    info: Any


class _AskingProcess:
    """A process of ``client``, from its start on."""

    def __init__(self, bridge: Bridge, client: AskedClient) -> None:
        self.key = client.key
        #: How many requests use it, and since when it has none.
        self.users, self.idle_since = 0, 0.0
        self.call: QuestionedCall | None = None
        self.spoken: asyncio.Future[Spoken] = asyncio.get_running_loop().create_future()
        self._audience: SharedAudience | None = None
        self._called, self._over = asyncio.Event(), asyncio.Event()
        self.life = asyncio.create_task(self._live(bridge, client), name="a process that asks")

    async def _live(self, bridge: Bridge, client: AskedClient) -> None:
        info = client.info if isinstance(client.info, dict) else {}
        try:
            async with bridge.own_process(client.capabilities, info, LEGACY[-1]) as spoken:
                self._audience = spoken.audience
                spoken.connection.audience = self
                spoken.connection.ended = self.end
                self.spoken.set_result(spoken)
                await self._over.wait()
        except JsonRpcError as fault:
            self.spoken.set_exception(fault)
            self.spoken.exception()  # Nobody may wait for it any more.
        finally:
            self.end()

    def end(self) -> None:
        """Ends the process."""
        self._over.set()
        for each in set() if self._audience is None else set(self._audience.endings):
            each()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._over.is_set()

    def work_for(self, call: QuestionedCall | None) -> None:
        """What it asks, now or from now on, is for ``call``."""
        self.call = call
        if call is None:
            self._called.clear()
        else:
            self._called.set()

    def notify(self, method: str, params: Params) -> None:
        """Hands on what it says without naming a request."""
        if self._audience is not None:
            self._audience.notify(method, params)

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """The client's answer; what is asked between requests waits for the next one."""
        while True:
            await self._called.wait()
            if self.call is not None:
                with suppress(CallOverError):
                    return await self.call.ask(method, params)
                await asyncio.sleep(0)


class AskingProcesses:
    """The processes of one bridge for modern clients that can be asked, ``most`` of them."""

    def __init__(self, bridge: Bridge, most: int, idle: float) -> None:
        self._bridge = bridge
        self._most = most
        self._idle = min(idle, _IDLE)
        self._processes: set[_AskingProcess] = set()
        self._freed = asyncio.Condition()
        self._sweep: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def some(self, client: AskedClient) -> AsyncIterator[Spoken]:
        """A process of ``client``, for what it does not ask about; raises
        :class:`JsonRpcError`."""
        of_client = (each for each in self._alive() if each.key == client.key)
        process = min(of_client, key=lambda each: each.users, default=None)
        if (process := process or self._another(client)) is None:
            raise self._busy()
        with self._used(process):
            yield await asyncio.shield(process.spoken)

    @asynccontextmanager
    async def one_for(self, call: QuestionedCall, client: AskedClient) -> AsyncIterator[Spoken]:
        """A process of ``client`` that works for ``call`` alone; raises :class:`JsonRpcError`."""
        process = await self._taken(call, client)
        try:
            with self._used(process):
                yield await asyncio.shield(process.spoken)
        finally:
            process.work_for(None)
            async with self._freed:
                self._freed.notify_all()

    async def close(self) -> None:
        """Ends all processes."""
        if self._sweep is not None:
            self._sweep.cancel()
        for each in self._processes:
            each.end()
        await asyncio.gather(*(each.life for each in self._processes), return_exceptions=True)

    async def _taken(self, call: QuestionedCall, client: AskedClient) -> _AskingProcess:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._freed:
            while True:
                own = [each for each in self._alive() if each.key == client.key]
                free = [each for each in own if each.call is None]
                process = max(free, key=lambda each: each.idle_since, default=None)
                waited = loop.time() - began
                if process is None and (not own or waited >= _LOYALTY):
                    process = self._another(client)
                if process is not None:
                    process.work_for(call)
                    return process
                if waited >= _PATIENCE:
                    raise self._busy()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(
                        began + (_LOYALTY if waited < _LOYALTY else _PATIENCE)
                    ):
                        await self._freed.wait()

    def _busy(self) -> JsonRpcError:
        detail = f"{self._most} processes for clients that can be asked are busy; try again soon"
        return JsonRpcError(INTERNAL_ERROR, detail, status=503)

    def _alive(self) -> Iterator[_AskingProcess]:
        self._processes = {each for each in self._processes if not each.life.done()}
        return (each for each in self._processes if not each.is_over)

    def _another(self, client: AskedClient) -> _AskingProcess | None:
        """A new process; ``None`` where there are too many, all of which are used."""
        alive = list(self._alive())
        if len(alive) >= self._most:
            idle = (each for each in alive if not each.users)
            if (oldest := min(idle, key=lambda each: each.idle_since, default=None)) is None:
                return None
            oldest.end()
        process = _AskingProcess(self._bridge, client)
        self._processes.add(process)
        if self._sweep is None:
            self._sweep_later()
        return process

    @contextmanager
    def _used(self, process: _AskingProcess) -> Iterator[None]:
        process.users += 1
        try:
            yield
        finally:
            process.users -= 1
            process.idle_since = asyncio.get_running_loop().time()

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(self._idle / 4, self._end_idle)

    def _end_idle(self) -> None:
        self._sweep = None
        now = asyncio.get_running_loop().time()
        for each in self._alive():
            if not each.users and each.spoken.done() and now - each.idle_since > self._idle:
                each.end()
        if self._processes:
            self._sweep_later()
