"""The outages that the alerts are tried against, each as it really happens.

``python -m tests.deploy.monitoring.record`` runs them, 3 to 20 minutes each, and records what
Prometheus saw. An outage says what fires at which point of it, and so what does not: each alert as
``ListStale f1``, its name and whom it names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests.deploy.monitoring.world import World, world
from tests.faults.faulty_clock import Clock
from tests.faults.programs import Program
from tests.faults.proxy import Link, link
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdCluster, EtcdServer, encode, prefix_end

Outage = Callable[[Path], Awaitable[World]]
OUTAGES: dict[str, Outage] = {}
POLICIES = Path(__file__).parents[3] / "deploy" / "consul" / "policies"
#: An instance whose heartbeats stopped leaves the list within a recording.
SOON = ("--reap-after", "60")


def outage(happens: Outage) -> Outage:
    """Adds an outage, named as its function is."""
    OUTAGES[happens.__name__] = happens
    return happens


@asynccontextmanager
async def usual(folder: Path, *options: str) -> AsyncIterator[tuple[World, EtcdServer]]:
    """An etcd, two facades, shop with two instances and bank with one, all well and watched."""
    async with EtcdServer() as etcd, world(folder) as made:
        await furnished(made, etcd.store_url, *options)
        await made.watch()
        yield made, etcd


@asynccontextmanager
async def linked(folder: Path) -> AsyncIterator[tuple[World, str, Link]]:
    """An empty world, the URL of an etcd, and a way to it that can be broken."""
    async with (
        EtcdServer() as etcd,
        link("127.0.0.1", etcd.http_port) as way,
        world(folder) as made,
    ):
        yield made, etcd.store_url, way


async def furnished(made: World, store: str, *options: str, other: str = "") -> None:
    """Facades and sidecars over ``store``; f2 over the ``other`` one."""
    await made.facade("f1", store)
    await made.facade("f2", other or store)
    for id in ("shop-1", "shop-2", "bank-1"):
        await made.sidecar(id, store, *options)
    await made.listed("shop-1", "shop-2", "bank-1")


def through(way: Link) -> str:
    """The URL of an etcd behind ``way``."""
    return f"etcd://{way.address}"


async def restarted(program: Program) -> None:
    """Stops a program in good order and starts it again."""
    await program.terminate()
    await program.start()


@outage
async def nothing_wrong(folder: Path) -> World:
    """Planned upgrades, drains and restarts, and a crash of the store: nobody is paged."""
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(EtcdServer())
        way = await stack.enter_async_context(link("127.0.0.1", etcd.http_port))
        made = await stack.enter_async_context(world(folder))
        await furnished(made, etcd.store_url, other=through(way))
        # The only one of its server is drained for longer than it takes to be paged for it.
        await made.sidecar("till-1", etcd.store_url, "--drain", "300")
        await made.sidecar("shop-3", etcd.store_url)
        await made.listed("till-1", "shop-3")
        await made.watch({"shop-2": made.sidecars["shop-2"].url})
        leaving = asyncio.create_task(made.sidecars["till-1"].process.terminate(330))
        # Maintenance: it is taken out, and its sidecar stays as it is for minutes.
        async with aiohttp.ClientSession() as http:
            await http.post(f"{made.sidecars['shop-2'].url}/drain")
        await made.sidecars["shop-2"].server.terminate()
        await made.rest(30)
        await restarted(made.facades["f2"].process)
        await restarted(made.sidecars["bank-1"].process)
        await made.rest(45)
        # One leaves in good order while a facade does not look.
        await way.become("refuse")
        await made.sidecars["shop-1"].process.terminate()
        await made.rest(25)
        await way.become("pass")
        await made.rest(60)
        made.check()
        await etcd.stop()
        await made.rest(25)
        await etcd.start()
        await made.rest(60)
        made.check()
        await leaving
        await etcd.kill()
        await made.rest(25)
        await etcd.start()
        await made.rest(150)
        made.check()
        return await recorded(made)


@outage
async def quorum_lost(folder: Path) -> World:
    """Two of three members of etcd are gone for minutes."""
    async with EtcdCluster() as etcd, world(folder) as made:
        await furnished(made, etcd.store_url)
        posted = {"id": "post-1", "name": "post", "url": made.sidecars["shop-1"].server.url}
        url = made.facades["f1"].url
        async with aiohttp.ClientSession() as http:
            await http.post(f"{url}/servers", json=posted)
        await made.listed("post-1")
        await made.watch()
        made.client("POST", f"{url}/servers", 2, posted | {"id": "post-2"})
        for each in etcd.members[:2]:
            await each.kill()
        await made.rest(270)
        made.check(
            *("ListStale f1", "ListStale f2", "HeartbeatsFailing f1"),
            *(f"HeartbeatsFailing {id}" for id in made.sidecars),
            *(f"SidecarNotRegistered {id}" for id in made.sidecars),
        )
        for each in etcd.members[:2]:
            await each.start(wait=False)
        await etcd.ready()
        await made.rest(180)
        made.check()
        return await recorded(made)


@outage
async def facade_cut_off(folder: Path) -> World:
    """A facade loses its way to the store while an instance is down, which is mended meanwhile;
    another goes down later."""
    async with linked(folder) as (made, store, way):
        await furnished(made, store, other=through(way))
        await made.watch()
        await made.sidecars["shop-1"].server.kill()
        await made.rest(180)
        made.check("InstanceDown shop-1")
        await way.become("refuse")
        await made.rest(15)
        await made.sidecars["shop-1"].server.start()
        await made.rest(165)
        made.check("ListStale f2")
        await made.sidecars["shop-2"].server.kill()
        await made.rest(180)
        made.check("ListStale f2", "InstanceDown shop-2")
        await made.sidecars["shop-2"].server.start()
        await way.become("pass")
        await made.rest(90)
        made.check()
        return await recorded(made)


@outage
async def facade_without_list(folder: Path) -> World:
    """A facade is started where it does not reach the store, and is asked all the same."""
    async with linked(folder) as (made, store, way):
        await furnished(made, store, other=through(way))
        await made.watch()
        await way.become("refuse")
        await restarted(made.facades["f2"].process)
        made.client("GET", f"{made.facades['f2'].url}/servers", 1)
        await made.rest(420)
        made.check("FacadeNotReady f2")
        await way.become("pass")
        await made.rest(90)
        made.check()
        return await recorded(made)


@outage
async def facades_gone(folder: Path) -> World:
    """One facade dies, and later the other."""
    async with usual(folder) as (made, _):
        await made.facades["f2"].process.kill()
        await made.rest(165)
        made.check("FacadeDown f2")
        await made.facades["f1"].process.kill()
        await made.rest(345)
        made.check("FacadeDown f1", "FacadeDown f2", "NoFacadeScraped")
        for each in made.facades.values():
            await each.process.start()
        await made.rest(90)
        made.check()
        return await recorded(made)


@outage
async def servers_killed(folder: Path) -> World:
    """One of two replicas dies, and then the only instance of another server."""
    async with usual(folder) as (made, _):
        await made.sidecars["shop-1"].server.kill()
        await made.rest(165)
        made.check("InstanceDown shop-1")
        await made.sidecars["bank-1"].server.kill()
        await made.rest(165)
        made.check("InstanceDown shop-1", "InstanceDown bank-1", "ServerUnavailable bank")
        for id in ("shop-1", "bank-1"):
            await made.sidecars[id].server.start()
        await made.rest(90)
        made.check()
        return await recorded(made)


@outage
async def hosts_dead(folder: Path) -> World:
    """Sidecars are killed, and the store forgets their instances while nothing is mended. Then one
    comes back, and another instance takes the place of the other."""
    async with usual(folder, *SOON) as (made, etcd):
        for id in ("shop-1", "bank-1"):
            await made.sidecars[id].process.kill()
            await made.sidecars[id].server.kill()
        await made.rest(300)
        made.check("InstanceDown shop-1", "InstanceDown bank-1", "ServerUnavailable bank")
        await made.sidecar("bank-2", etcd.store_url)
        await made.sidecars["shop-1"].server.start()
        await made.sidecars["shop-1"].process.start()
        await made.listed("shop-1", "bank-2")
        await made.rest(60)
        made.check()
        return await recorded(made)


@outage
async def sidecar_cut_off(folder: Path) -> World:
    """A sidecar loses its way to the store."""
    async with linked(folder) as (made, store, way):
        await furnished(made, store, *SOON)
        await made.sidecar("shop-3", through(way), *SOON)
        await made.listed("shop-3")
        await made.watch()
        await way.become("refuse")
        await made.rest(240)
        made.check("HeartbeatsFailing shop-3", "SidecarNotRegistered shop-3", "InstanceDown shop-3")
        await way.become("pass")
        await made.rest(90)
        made.check()
        return await recorded(made)


@outage
async def locked_out(folder: Path) -> World:
    """Consul's token of a sidecar and that of a facade are deleted; another sidecar has had none
    that Consul knows from the start. Its instance has left the list long before that is mended."""
    async with ConsulServer(acl=True) as consul, world(folder) as made:
        names = ("sidecar", "facade", "sweeper")
        rules = "\n".join((POLICIES / f"{name}.hcl").read_text() for name in names)

        async def token(name: str) -> str:
            text = await consul.create_token(rules)
            (made.folder / f"{name}.token").write_text(text)
            return text

        def reads(name: str) -> tuple[str, str]:
            return "--store-token-file", str(made.folder / f"{name}.token")

        await token("all")
        tokens = {name: await token(name) for name in ("f2", "shop-1")}
        store = consul.store_url
        await made.facade("f1", store, *reads("all"))
        await made.facade("f2", store, *reads("f2"))
        await made.sidecar("shop-1", store, *reads("shop-1"), *SOON)
        await made.sidecar("shop-2", store, *reads("all"), *SOON)
        await made.listed("shop-1", "shop-2")
        (made.folder / "bank-1.token").write_text("7d3c2a9e-0000-4000-8000-000000000000")
        bank = await made.sidecar("bank-1", store, *reads("bank-1"), *SOON)
        await made.watch({"bank-1": bank.url})
        for secret in tokens.values():
            own = (await consul.api("GET", "/v1/acl/token/self", token=secret)).json()
            await consul.api("DELETE", f"/v1/acl/token/{own['AccessorID']}")
        await restarted(made.facades["f2"].process)
        await made.rest(400)
        made.check(
            *("FacadeNotReady f2", "StoreDenied f2", "StoreDenied shop-1", "StoreDenied bank-1"),
            *("SidecarNotRegistered shop-1", "SidecarNotRegistered bank-1", "InstanceDown shop-1"),
        )
        for name in ("f2", "shop-1", "bank-1"):
            await token(name)
        await made.rest(120)
        made.check()
        return await recorded(made)


@outage
async def facade_may_not_write(folder: Path) -> World:
    """The user of a facade may only read, and clients post servers to it."""
    async with EtcdServer(auth=True) as etcd, world(folder) as made:
        await etcd.add_user("all", "secret", prefix="/mcp/")
        await etcd.add_user("reader", "secret", prefix="/mcp/", permission="READ")
        (made.folder / "password").write_text("secret")
        file = "--store-password-file", str(made.folder / "password")
        await made.facade("f1", etcd.store_url, "--store-user", "all", *file)
        await made.facade("f2", etcd.store_url, "--store-user", "reader", *file)
        shop = await made.sidecar("shop-1", etcd.store_url, "--store-user", "all", *file)
        await made.listed("shop-1")
        await made.watch()
        url = f"{made.facades['f2'].url}/servers"
        made.client("POST", url, 3, {"id": "post-1", "name": "post", "url": shop.server.url})
        await made.rest(480)
        made.check("StoreDenied f2", "RequestErrors f2")
        role = {"permType": "READWRITE", "key": encode("/mcp/"), "range_end": prefix_end("/mcp/")}
        role["range_end"] = encode(role["range_end"])
        await etcd.call("auth/role/grant", {"name": "reader", "perm": role})
        await made.rest(390)
        made.check()
        return await recorded(made)


@outage
async def keys_deleted(folder: Path) -> World:
    """Somebody deletes the key of an instance again and again."""
    async with usual(folder) as (made, etcd):
        for _ in range(2):
            await removed(etcd, "/mcp/live/shop-1")
            await made.rest(60)
        made.check()
        for _ in range(2):
            await removed(etcd, "/mcp/live/shop-1")
            await made.rest(60)
        made.check("RegistrationsLost shop-1")
        await made.rest(840)
        made.check()
        return await recorded(made)


@outage
async def watch_cut(folder: Path) -> World:
    """Something cuts the connections of a facade to the store every minute."""
    async with linked(folder) as (made, store, way):
        await furnished(made, store, other=through(way))
        await made.watch()
        for _ in range(7):
            await way.become("cut")
            await made.rest(1)
            await way.become("pass")
            await made.rest(59)
        made.check("WatchRestarting f2")
        await made.rest(330)
        made.check()
        return await recorded(made)


@outage
async def store_wiped(folder: Path) -> World:
    """The keys of all are deleted while one of them is dead; later it is started again."""
    async with usual(folder) as (made, etcd):
        await made.sidecars["shop-2"].process.kill()
        await removed(etcd, "/mcp/", all_below=True)
        await made.rest(60)
        made.check("MassDropHeld f1", "MassDropHeld f2")
        await made.rest(360)
        made.check("InstanceDown shop-2")
        await made.sidecars["shop-2"].process.start()
        await made.rest(60)
        made.check()
        return await recorded(made)


@outage
async def other_prefix(folder: Path) -> World:
    """A facade of three watches another prefix, where one instance is."""
    async with EtcdServer() as etcd, world(folder) as made:
        await furnished(made, etcd.store_url)
        await made.facade("f3", f"{etcd.store_url}/elsewhere")
        await made.watch()
        await made.rest(390)
        made.check("FacadesDisagree f3")
        return await recorded(made)


@outage
async def foreign_key(folder: Path) -> World:
    """Another program writes below the prefix."""
    async with usual(folder) as (made, etcd):
        await etcd.put("/mcp/servers/notes/of-mine", "not a record")
        await made.rest(690)
        made.check("KeysSkipped f1", "KeysSkipped f2")
        await removed(etcd, "/mcp/servers/notes/of-mine")
        await made.rest(60)
        made.check()
        return await recorded(made)


@outage
async def slow_server(folder: Path) -> World:
    """One of two replicas answers after two seconds."""
    async with usual(folder) as (made, _):
        await made.sidecars["shop-1"].server.control(delay=2)
        await made.rest(960)
        made.check("ProbesSlow shop-1")
        await made.sidecars["shop-1"].server.control(delay=0)
        await made.rest(360)
        made.check()
        return await recorded(made)


@outage
async def clock_behind(folder: Path) -> World:
    """The clock of one sidecar's machine is a minute behind, and its server comes and goes."""
    async with EtcdServer() as etcd, world(folder) as made:
        await furnished(made, etcd.store_url)
        clock = Clock(made.folder / "clock")
        clock.step(-60)
        shop = await made.sidecar("shop-3", etcd.store_url, clock=clock)
        await made.listed("shop-3")
        await made.watch()
        await coming_and_going(made, shop.server.control, 840)
        made.check("ClockDiffers shop-3")
        clock.step(0)
        await made.rest(60)
        return await recorded(made)


@outage
async def slow_way(folder: Path) -> World:
    """What a sidecar writes is long under way, and its server comes and goes."""
    async with linked(folder) as (made, store, way):
        await furnished(made, store)
        shop = await made.sidecar("shop-3", through(way), "--ttl", "60")
        await made.listed("shop-3")
        await made.watch()
        await way.become("delay", 2.3)
        await coming_and_going(made, shop.server.control, 960)
        made.check("ListLags f1", "ListLags f2")
        return await recorded(made)


@outage
async def slow_writes(folder: Path) -> World:
    """A facade's way to the store is slow, and clients post servers to it."""
    async with linked(folder) as (made, store, way):
        await furnished(made, store, other=through(way))
        await made.watch()
        await way.become("delay", 0.6)
        url = f"{made.facades['f2'].url}/servers"
        server = made.sidecars["shop-1"].server.url
        made.client("POST", url, 5, {"id": "post-1", "name": "post", "url": server})
        await made.rest(960)
        made.check("RequestsSlow f2")
        await way.become("pass")
        await made.rest(360)
        made.check()
        return await recorded(made)


async def coming_and_going(
    made: World, control: Callable[..., Awaitable[object]], seconds: float
) -> None:
    """A server that fails for a minute, and not for the next, for so long."""
    for n in range(int(seconds // 60)):
        await control(fail=500 if n % 2 == 0 else 0)
        await made.rest(60)
    await control(fail=0)


async def removed(etcd: EtcdServer, key: str, *, all_below: bool = False) -> None:
    """Deletes a key, or all below a prefix."""
    asked = {"key": encode(key)} | ({"range_end": encode(prefix_end(key))} if all_below else {})
    await etcd.call("kv/deleterange", asked)


async def recorded(made: World) -> World:
    """Reads from Prometheus what it saw, before all of it ends."""
    await made.rest(15)
    await made.take_series()
    return made
