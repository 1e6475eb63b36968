"""Does the store answer, and do the credentials let a sidecar read and write?"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import CredentialsEnd, Registration, Snapshot, Store
from mcp_discovery.adapters.stores import kind_of
from mcp_discovery.cli.doctor.case import Case, DoctorFinding, ok, unchecked, wrong
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DiscoveryError,
    InvalidInputError,
    StoreDeniedError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Status, rfc3339
from mcp_discovery.record import Record

#: Where the registration could not be removed, the store forgets it after so many seconds.
_TTL = 10.0


async def check_store(case: Case) -> AsyncIterator[DoctorFinding]:
    """Reading, and unless that is not wanted, writing."""
    if case.store is None:
        yield unchecked("no store is named", "name it with --store to have it checked")
        return
    try:
        if kind_of(case.store).shared_by == "process":
            why = "an embedded store lives in its facade, and was checked with that"
            yield unchecked(why)
            return
        store = open_store(case.store, replace(case.credentials, timeout=case.timeout))
    except InvalidInputError as error:
        yield wrong(str(error), "mend --store or its credentials")
        return
    async with store:
        before = await _read(store, case.timeout)
        if isinstance(before, DoctorFinding):
            yield before
            return
        if before.partial is not None:
            yield wrong(f"{store.url} can be read in part only: {before.partial}", "grant it")
        else:
            yield ok(f"{store.url} can be read: {len(before.instances)} instances")
        if (plain := kind_of(case.store).unencrypted(case.store, case.credentials)) is not None:
            yield wrong(plain, "see docs/etcd.md or docs/consul.md for how")
        if store.unguarded is not None:
            yield wrong(store.unguarded, "see docs/etcd.md or docs/consul.md for how")
        if (end := store.credentials_end) is not None:
            yield _look_at_end(end)
        if case.read_only:
            yield unchecked("whether it can be written to was not asked (--read-only)")
            return
        async for finding in _check_writing(store, case.timeout):
            yield finding


def _look_at_end(end: CredentialsEnd) -> DoctorFinding:
    what = f"its token expires at {rfc3339(end.at)}"
    if end.near:
        return wrong(what, "give another one before: what is registered with it goes down then")
    return ok(f"{what}, which is not soon")


async def _read(store: Store, timeout: float) -> Snapshot | DoctorFinding:
    try:
        async with asyncio.timeout(timeout), aclosing(store.watch()) as news:
            first = await anext(news)
    except TimeoutError:
        return _unreachable(store, f"{store.url}: no list within {timeout:g} s")
    except StoreDeniedError as error:
        advice = "give a token or user that may read, with one of the --store-… options"
        return wrong(f"it refuses to be read: {error}", advice)
    except StoreUnavailableError as error:
        return _unreachable(store, str(error))
    assert isinstance(first, Snapshot), "a watch begins with a snapshot"
    return first


def _unreachable(store: Store, why: str) -> DoctorFinding:
    advice = "see that it runs, that the address is right, and that no firewall is between"
    return wrong(why, advice)


async def _check_writing(store: Store, timeout: float) -> AsyncIterator[DoctorFinding]:
    """Registers an instance that nobody is offered, and removes it whatever happens."""
    id = f"doctor-{secrets.token_hex(4)}"
    # Port 9 is the discard service's: nobody who came across this would reach anything.
    record = Record.parse(
        {"id": id, "name": "doctor", "endpoint": {"url": "http://127.0.0.1:9/mcp"}, "tags": []}
    )
    health = Health(Status.DRAINING, "a probe of mcp-discovery doctor; gone in a moment")
    made = asyncio.ensure_future(
        store.register(record, CapabilityDocument(), ttl=_TTL, reap_after=_TTL, health=health)
    )
    try:
        async with asyncio.timeout(timeout):
            registration = await asyncio.shield(made)
    except TimeoutError:
        await _undo(made, timeout)
        why = f"it did not take a registration within {timeout:g} s"
        yield wrong(why, "see its load and its log; a cluster needs a leader to write")
        return
    except StoreDeniedError as error:
        advice = "a sidecar needs a token or user that may write; facades do with reading"
        yield wrong(f"it can be read, but not written to: {error}", advice)
        return
    except DiscoveryError as error:
        yield wrong(f"it took no registration: {error}", "see its log")
        return
    except asyncio.CancelledError:
        await _undo(made, timeout)
        raise
    problem = await asyncio.shield(_remove(registration, timeout))
    if problem is None:
        yield ok("it can be written to: a registration was made and removed again")
        if (lacking := store.lacking) is not None:
            yield wrong(lacking, "give the token the sidecar's policy: deploy/consul/policies")
    else:
        what = f"the registration {id} was made, but could not be removed: {problem}"
        yield wrong(what, f"nothing has to be done: it is gone after {_TTL:g} s by itself")


async def _undo(made: asyncio.Future[Registration], timeout: float) -> None:
    """Waits for a registration on its way, so as not to leave it behind."""
    done, _ = await asyncio.wait([made], timeout=timeout)
    if not done:
        made.cancel()
        await asyncio.wait([made])
    elif not made.cancelled() and made.exception() is None:
        await _remove(made.result(), timeout)


async def _remove(registration: Registration, timeout: float) -> str | None:
    """Removes it; what went wrong, where something did."""
    try:
        async with asyncio.timeout(timeout):
            await registration.deregister()
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except DiscoveryError as error:
        return str(error)
    return None
