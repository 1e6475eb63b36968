"""Does the store answer, and do the credentials suffice for one server's sidecar, or a facade?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import CredentialsEnd, Registration, Snapshot, Store
from mcp_discovery.adapters.stores import REMOTE, kind_of
from mcp_discovery.cli.doctor.case import Case, DoctorFinding, ok, unchecked, wrong
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DiscoveryError,
    InvalidInputError,
    StoreDeniedError,
    StoreFault,
    StoreUnavailableError,
    StoreUnsupportedError,
)
from mcp_discovery.health import Health, Status, rfc3339
from mcp_discovery.plural import counted
from mcp_discovery.record import Record

#: Where the registration could not be removed, the store forgets it after so many seconds.
_TTL = 10.0
_CREDENTIALS = "give others with the --store-… options"
_GRANT_READING = "deploy/etcd/roles.sh and deploy/consul/policies hold all that a facade needs"


async def check_store(case: Case) -> AsyncIterator[DoctorFinding]:
    """What a facade does with it, or a sidecar: unless that is not wanted, writing too."""
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
        try:
            async for finding in _check_as(store, case.store, case):
                yield finding
        except StoreUnavailableError as error:
            yield wrong(str(error), error.fault.remedy)


async def _check_as(store: Store, url: str, case: Case) -> AsyncIterator[DoctorFinding]:
    denied: StoreDeniedError | None = None
    try:
        first = await _read(store, case.patience)
    except StoreDeniedError as error:
        denied = error
    else:
        if first.partial is not None:
            said = wrong if case.role == "facade" else unchecked  # a sidecar needs none of it
            yield said(f"{store.url} can be read in part only: {first.partial}", "grant it")
        else:
            yield ok(f"{store.url} can be read: {counted(len(first.instances), 'instance')}")
    record = case.probe() if case.role == "sidecar" else None
    try:
        async with asyncio.timeout(case.patience):
            lacking = await store.would_refuse(record)
    except TimeoutError as error:
        silent = f"no answer within {case.patience:g} s"
        raise StoreUnavailableError(store.url, silent, fault=StoreFault.SILENT) from error
    except StoreDeniedError as error:
        yield wrong(f"it refuses these credentials: {error}", _CREDENTIALS)
        return
    if (plain := kind_of(url).unencrypted(url, case.credentials)) is not None:
        yield wrong(plain, "see docs/etcd.md or docs/consul.md for how")
    if store.unguarded is not None:
        yield wrong(store.unguarded, "see docs/etcd.md or docs/consul.md for how")
    if (end := store.credentials_end) is not None:
        yield _look_at_end(end)
    if record is None:
        if lacking is not None or denied is not None:
            why = lacking if denied is None else denied.problem
            yield wrong(f"a facade cannot list what it holds: {why}", _GRANT_READING)
        else:
            yield await _look_at_queries(store)
        return
    if denied is not None:
        yield unchecked("its list was not read: that takes a facade's rights; a sidecar needs none")
    if kind_of(url).has_catalog and await store.node_address() is None:
        why = "whether this machine's address is known to Consul: the token lacks agent:read"
        yield unchecked(why, "grant it, or give the sidecar --advertise-url")
    if lacking is not None:
        what = f"a sidecar of {record.name} cannot keep it registered: {lacking}"
        yield wrong(what, _grant_writing(case))
    elif case.read_only:
        yield unchecked("whether it can be written to was not asked (--read-only)")
    else:
        async for finding in _check_writing(store, record, case):
            yield finding


async def _look_at_queries(store: Store) -> DoctorFinding:
    """Whether named queries can be answered, and kept: which not every facade has to."""
    try:
        known = await store.queries()
        lacking = await store.keeps_queries()
    except StoreUnsupportedError as error:
        return unchecked(f"named queries: {error.problem}")
    except StoreDeniedError as error:
        return unchecked(f"named queries cannot be answered: {error.problem}", _GRANT_READING)
    number = f"{counted(len(known), 'definition')} of named queries"
    if lacking is None:
        return ok(f"{number} can be read, and more be kept")
    return unchecked(
        f"{number} can be read, and none be kept: {lacking}",
        "grant it where PUT /queries/{name} is to work, as docs/queries.md says",
    )


def _grant_writing(case: Case) -> str:
    if case.store is not None and kind_of(case.store) is REMOTE:
        return (
            "give a token by --store-token-file or --store-oauth-issuer, whose role has the rights "
            "to read and to register in the file of the facade's --auth"
        )
    grant = "deploy/etcd/roles.sh and deploy/consul/policies hold all that a sidecar needs"
    if case.name is not None:
        return grant
    return f"{grant}; for those of one server's sidecars give --name NAME, of a facade --as facade"


def _look_at_end(end: CredentialsEnd) -> DoctorFinding:
    what = f"its token expires at {rfc3339(end.at)}"
    if end.near:
        return wrong(what, "give another one before: what is registered with it goes down then")
    return ok(f"{what}, which is not soon")


async def _read(store: Store, timeout: float) -> Snapshot:
    try:
        async with asyncio.timeout(timeout), aclosing(store.watch()) as news:
            first = await anext(news)
    except TimeoutError as error:
        why = f"no list within {timeout:g} s"
        raise StoreUnavailableError(store.url, why, fault=StoreFault.SILENT) from error
    assert isinstance(first, Snapshot), "a watch begins with a snapshot"
    return first


async def _check_writing(store: Store, record: Record, case: Case) -> AsyncIterator[DoctorFinding]:
    """Registers an instance that nobody is offered, and removes it whatever happens."""
    timeout = case.patience
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
        yield wrong(why, StoreFault.SILENT.remedy)
        return
    except StoreDeniedError as error:
        yield wrong(f"it cannot be written to: {error}", _grant_writing(case))
        return
    except StoreUnavailableError:
        raise
    except DiscoveryError as error:
        yield wrong(f"it took no registration: {error}", StoreFault.OTHER.remedy)
        return
    except asyncio.CancelledError:
        await _undo(made, timeout)
        raise
    try:
        kept = await _kept(registration, health, timeout)
    finally:
        problem = await asyncio.shield(_remove(registration, timeout))
    if kept is not None:
        yield wrong(f"a registration was made, and could not be kept: {kept}", _grant_writing(case))
    elif problem is None:
        yield ok(
            f"it can be written to: a registration of {record.name} was made and removed again"
        )
        if (lacking := store.lacking) is not None:
            yield wrong(lacking, "give the token the sidecar's policy: deploy/consul/policies")
    if problem is not None:
        what = f"the registration {record.id} was made, but could not be removed: {problem}"
        yield wrong(what, f"nothing has to be done: it is gone after {_TTL:g} s by itself")


async def _undo(made: asyncio.Future[Registration], timeout: float) -> None:
    """Waits for a registration on its way, so as not to leave it behind."""
    done, _ = await asyncio.wait([made], timeout=timeout)
    if not done:
        made.cancel()
        await asyncio.wait([made])
    elif not made.cancelled() and made.exception() is None:
        await _remove(made.result(), timeout)


async def _kept(registration: Registration, health: Health, timeout: float) -> str | None:
    """Renews it; what went wrong, where something did."""
    try:
        async with asyncio.timeout(timeout):
            await registration.heartbeat(health, renew=True)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except DiscoveryError as error:
        return str(error)
    return None


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
