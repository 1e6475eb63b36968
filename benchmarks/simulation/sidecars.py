"""What sidecars do to a store, done by real registrations: begin, beat, end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import data
from benchmarks.simulation.loads import Meter, each
from benchmarks.simulation.recording_proxy import RecordingProxy, ask_again
from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.health import Health, Status, healthy

#: How many ask at the same time.
_WIDTH = 8
#: Two rounds of heartbeats: every other one renews, the others look. What they asked is asked
#: again, so many times in all, and so many at once.
_ROUNDS = 2
_AGAIN, _AT_ONCE = 6000, 24
_TTL, _REAP_AFTER = 600.0, 3600.0
#: Seconds until what an agent tells its servers later has been told.
_SETTLE = 1.0


@dataclass(frozen=True, slots=True)
class SidecarCosts:
    """What one heartbeat, one changed health and one life cost: the seconds of each of the metered
    processes, then the bytes."""

    beat: list[float]
    change: list[float]
    life: list[float]


async def measure_sidecars(
    stores: Sequence[Store],
    first: int,
    count: int,
    meters: Sequence[Meter],
    wires: Sequence[RecordingProxy],
) -> SidecarCosts:
    """``count`` instances, from number ``first`` on, register in the stores in turn, beat for some
    rounds and deregister."""
    registrations: list[Registration] = []

    async def register(number: int) -> None:
        record, document = data.record(first + number), data.document(first + number)
        store = stores[number % len(stores)]
        registrations.append(
            await store.register(record, document, ttl=_TTL, reap_after=_REAP_AFTER)
        )

    async def beat(number: int) -> None:
        await registrations[number % count].heartbeat(health)

    async def end(number: int) -> None:
        await registrations[number].deregister()

    health = healthy()
    tally = _Tally(meters, wires)
    await each(count, _WIDTH, register)
    begun = await tally.lap(count)
    await each(count, _WIDTH, beat)  # the first of each is not yet in its rhythm
    await tally.lap(count)
    for wire in wires:
        wire.requests.clear()
    await each(_ROUNDS * count, _WIDTH, beat)
    *_, beat_bytes = await tally.lap(_ROUNDS * count)
    asked = [(wire.beyond, list(wire.requests)) for wire in wires]
    again = _AGAIN // len(wires)
    async with asyncio.TaskGroup() as group:
        for place, requests in asked:
            group.create_task(ask_again(place, requests, again, _AT_ONCE // len(wires)))
    beaten = [*(await tally.lap(again * len(wires)))[:-1], beat_bytes]
    health = Health(Status.DEGRADED, "slower than 0.5 s")
    await each(count, _WIDTH, beat)
    changed = await tally.lap(count)
    await each(count, _WIDTH, end)
    ended = await tally.lap(count)
    life = [one + other for one, other in zip(begun, ended, strict=True)]
    return SidecarCosts(beaten, changed, life)


class _Tally:
    def __init__(self, meters: Sequence[Meter], wires: Sequence[RecordingProxy]) -> None:
        self._meters, self._wires = meters, wires
        self._last = self._now()

    def _now(self) -> list[float]:
        return [*(meter.used() for meter in self._meters), sum(each.bytes for each in self._wires)]

    async def lap(self, count: int) -> list[float]:
        """What one of ``count`` used since the last lap: of each process, then bytes."""
        await asyncio.sleep(_SETTLE)
        now = self._now()
        before, self._last = self._last, now
        return [(one - other) / count for one, other in zip(now, before, strict=True)]
