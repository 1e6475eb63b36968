"""What is listed, since when, at which address, and what is remembered of what is gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from mcp_discovery.adapters.tombstone import tombstone
from mcp_discovery.facade.registry import index as registry_index
from mcp_discovery.facade.registry.entries import LIVE
from mcp_discovery.facade.registry.index import RegistryIndex, RegistryQuery
from mcp_discovery.health import Health, Load, Status, rfc3339
from mcp_discovery.instance import Instance
from tests.facade.registry.fleet import NAME, START, Fleet, instance, shown
from tests.seeds import seeded


def url(fleet: Fleet, version: str = "latest") -> str | None:
    remote = fleet.one(version).server.remote
    return None if remote is None else remote.url


def at(id: str) -> str:
    return f"http://127.0.0.1:8001/mcp?of={id}"


def turned(one: Instance, status: Status) -> Instance:
    return replace(one, health=Health(status, f"is {status}", START, START))


# -- what is listed ---------------------------------------------------------------------------


def test_replicas_of_one_version_are_one_entry() -> None:
    fleet = Fleet(instance("a"), instance("b"), instance("c", version="2.0.0"))
    assert [each.key for each in fleet.everything()] == [(NAME, "1.2.3"), (NAME, "2.0.0")]
    live = shown(fleet.one("1.2.3"))["_meta"][LIVE]
    assert live["instances"] == {
        "healthy": 2,
        "degraded": 0,
        "draining": 0,
        "down": 0,
        "quarantined": 0,
    }


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ("healthy down", "healthy"),
        ("degraded healthy", "healthy"),
        ("degraded down", "degraded"),
        ("down down", "down"),
        ("draining down", "down"),
        ("draining healthy", "healthy"),
        ("draining draining", None),
    ],
)
def test_a_server_is_as_well_as_the_best_of_its_instances(
    statuses: str, status: str | None
) -> None:
    fleet = Fleet(
        *(instance(str(n), status=Status(each)) for n, each in enumerate(statuses.split()))
    )
    if status is None:
        assert fleet.everything() == []
        return
    live = shown(fleet.one())["_meta"][LIVE]
    assert live["status"] == status
    assert live["reason"] == f"is {status}"
    for each in Status:
        assert live["instances"][each.value] == statuses.split().count(each.value)


def test_it_was_seen_when_the_last_of_its_instances_was() -> None:
    fleet = Fleet(instance("a", status=Status.DOWN, age=50), instance("b", age=3))
    assert shown(fleet.one())["_meta"][LIVE]["lastSeen"] == rfc3339(START - timedelta(seconds=3))
    later = START + timedelta(seconds=60)  # its lease of 10 s is kept: it was heard of since
    seen = shown(fleet.one(), later)["_meta"][LIVE]["lastSeen"]
    assert seen == rfc3339(later - timedelta(seconds=10))


def test_only_what_is_shown_is_spelled() -> None:
    fleet = Fleet(*(instance(f"i{n:03d}", registryName=f"x/{n:03d}") for n in range(300)))
    page, more = fleet.index.page(RegistryQuery(version="latest"), ("x/100", "1.2.3"), 5)
    assert more
    for each in page:
        each.json(START)
    encoded_url = [each.key[0] for each in fleet.everything() if "data" in vars(each.server)]
    assert encoded_url == ["x/101", "x/102", "x/103", "x/104", "x/105"]


def test_a_server_that_is_down_stays_until_it_is_gone() -> None:
    one = instance("a")
    fleet = Fleet(one)
    fleet.put(turned(one, Status.DOWN))
    assert fleet.told()["status"] == "active"
    assert fleet.told()["statusMessage"] == "down: is down"
    assert shown(fleet.one())["_meta"][LIVE]["status"] == "down"
    fleet.wait(5)
    fleet.remove("a")
    assert fleet.index.version(NAME, "latest") is None
    told = fleet.told(deleted=True)
    assert told["status"] == "deleted"
    assert told["statusChangedAt"] == told["updatedAt"] == rfc3339(START + timedelta(seconds=5))
    assert told["statusMessage"] == "no instance of it is registered any more"
    assert told["publishedAt"] == rfc3339(START)
    assert told["isLatest"] is True
    assert list(shown(fleet.one(deleted=True))["_meta"]) == [
        "io.modelcontextprotocol.registry/official"
    ]


def test_one_that_came_and_went_between_two_looks_is_deleted() -> None:
    """Another facade may have told of it."""
    fleet = Fleet(instance("a", version="1.0.0"))
    fleet.wait(3)
    fleet.come_and_go(instance("b", version="2.0.0"), instance("c", version="2.0.0"))
    told = fleet.told("2.0.0", deleted=True)
    assert told["status"] == "deleted"
    assert told["updatedAt"] == rfc3339(START + timedelta(seconds=3))
    assert fleet.one().key[1] == "1.0.0"


def test_a_server_that_drains_is_deleted_and_comes_back() -> None:
    one = instance("a", age=100)
    fleet = Fleet(one)
    fleet.wait(1)
    fleet.put(turned(one, Status.DRAINING))
    assert fleet.told(deleted=True)["status"] == "deleted"
    assert fleet.told(deleted=True)["statusMessage"] == "draining: is draining"
    fleet.wait(1)
    fleet.put(one)
    told = fleet.told()
    assert told["status"] == "active"
    assert "statusMessage" not in told
    assert told["publishedAt"] == rfc3339(START - timedelta(seconds=100))
    assert told["statusChangedAt"] == told["updatedAt"] == rfc3339(START + timedelta(seconds=2))


def test_a_message_tells_of_the_best_instance_and_is_no_longer_than_allowed() -> None:
    long = Health(Status.DEGRADED, "slow, " * 200, START, START)
    fleet = Fleet(replace(instance("a"), health=long), turned(instance("b"), Status.DOWN))
    message = fleet.told()["statusMessage"]
    assert message.startswith("degraded: slow, slow")
    assert len(message) <= 500
    fleet.put(instance("b"))
    assert "statusMessage" not in fleet.told()


def test_one_that_left_after_it_drained_says_that_it_drained() -> None:
    one = instance("a")
    fleet = Fleet(one)
    fleet.put(turned(one, Status.DRAINING))
    fleet.remove("a")
    assert fleet.told(deleted=True)["statusMessage"] == "draining: is draining"


def test_what_a_facade_removed_for_another_is_deleted_too() -> None:
    one = instance("a")
    fleet = Fleet(one)
    fleet.put(replace(one, record=tombstone(one.record)))
    assert fleet.told(deleted=True)["status"] == "deleted"
    assert len(fleet.everything()) == 1


# -- versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "latest"),
    [
        ("1.2.0 1.10.0 1.9.9", "1.10.0"),
        ("2.0.0-rc.1 1.9.9", "2.0.0-rc.1"),
        ("2.0.0-rc.1 2.0.0", "2.0.0"),
        ("1.0.0+a 1.0.0+b", "1.0.0+b"),
        ("1.0.0-2 1.0.0-10", "1.0.0-10"),
    ],
)
def test_one_version_is_the_latest(versions: str, latest: str) -> None:
    fleet = Fleet(*(instance(f"i{n}", version=v) for n, v in enumerate(versions.split())))
    marked = [each.key[1] for each in fleet.everything() if each.is_latest]
    assert marked == [latest]
    assert fleet.one().key[1] == latest


def test_the_latest_that_goes_leaves_its_place_to_the_one_before() -> None:
    fleet = Fleet(instance("a", version="1.0.0"), instance("b", version="2.0.0"))
    before = fleet.told("1.0.0")
    fleet.wait(1)
    fleet.remove("b")
    assert fleet.told() == before | {"isLatest": True}
    assert fleet.told("2.0.0", deleted=True)["isLatest"] is False
    fleet.put(instance("b", version="1.5.0"))
    assert fleet.one().key[1] == "1.5.0"
    assert [each.key[1] for each in fleet.index.versions(NAME)] == ["1.5.0", "1.0.0"]


def test_versions_come_the_newest_publication_first() -> None:
    fleet = Fleet(
        instance("a", version="2.0.0", age=50),
        instance("b", version="1.9.1", age=10),
        instance("c", version="1.0.0", age=50),
    )
    assert [each.key[1] for each in fleet.index.versions(NAME)] == ["1.9.1", "2.0.0", "1.0.0"]


def test_an_upgrade_in_place() -> None:
    fleet = Fleet(instance("a", version="1.0.0"), instance("b", version="1.0.0"))
    fleet.put(instance("a", version="1.1.0"))
    assert fleet.told("1.0.0")["isLatest"] is False
    fleet.put(instance("b", version="1.1.0"))
    assert fleet.told("1.0.0", deleted=True)["status"] == "deleted"
    assert len(fleet.one("1.1.0").instances) == 2


# -- times ------------------------------------------------------------------------------------


def test_health_that_comes_and_goes_moves_no_time() -> None:
    one, other = instance("a", age=20), instance("b", age=10)
    fleet = Fleet(one, other)
    before, generation = fleet.told(), fleet.index.generation
    for status in (Status.DEGRADED, Status.HEALTHY) * 3:
        fleet.wait(1)
        fleet.put(turned(one, status), replace(other, load=Load(active=3)))
    for status in (Status.DOWN, Status.HEALTHY) * 3:
        fleet.wait(1)
        fleet.put(turned(other, status))
    assert fleet.told() == before
    assert fleet.index.generation == generation


def test_a_load_that_moves_makes_no_entry_anew() -> None:
    fleet = Fleet(one := instance("a"))
    before = fleet.one()
    fleet.put(replace(one, load=Load(active=5)))
    assert fleet.one() is before


def test_the_time_moves_when_the_server_json_moves() -> None:
    fleet = Fleet(instance("a", age=60))
    assert fleet.told()["updatedAt"] == rfc3339(START - timedelta(seconds=60))
    fleet.wait(7)
    fleet.put(instance("a", age=60, title="Another"))
    told = fleet.told()
    assert told["updatedAt"] == rfc3339(START + timedelta(seconds=7))
    assert told["statusChangedAt"] == told["publishedAt"] == rfc3339(START - timedelta(seconds=60))


def test_a_server_was_published_when_its_first_instance_was() -> None:
    fleet = Fleet(instance("a", age=60), instance("b", age=30))
    fleet.remove("a")
    fleet.put(instance("b", age=30, title="Another"))
    fleet.put(instance("c", age=10))
    fleet.remove("b")
    fleet.put(instance("c", age=10, title="Yet another"))
    assert fleet.told()["publishedAt"] == rfc3339(START - timedelta(seconds=60))


def test_a_replica_more_or_less_moves_nothing() -> None:
    fleet = Fleet(instance("a", age=60))
    before = fleet.told()
    fleet.wait(1)
    fleet.put(instance("b"))
    assert fleet.told() == before
    fleet.remove("b")
    assert fleet.told() == before


def test_two_facades_tell_the_same_times() -> None:
    started = (START - timedelta(seconds=3)).isoformat()
    instances = [instance("a", age=60, startedAt=started), instance("b", age=5)]
    whole, late = Fleet(*instances), Fleet()
    late.wait(30)
    late.put(*reversed(instances))
    assert whole.told() == late.told()
    assert whole.told()["updatedAt"] == rfc3339(START - timedelta(seconds=3))
    # One is gone, and registers anew a minute later: that is when it became what it is.
    for fleet, seen_after in ((whole, 0.2), (late, 3.0)):
        fleet.remove("a", "b")
        fleet.wait(60 + seen_after)
        fleet.put(instance("c", age=-3600, version="1.2.3"))
    assert whole.told()["updatedAt"] == late.told()["updatedAt"]


def test_who_asks_since_a_moment_misses_nothing() -> None:
    """Not even one that registered before that moment and was seen here only after it."""
    fleet = Fleet(instance("a", age=60))

    def since(seconds: float) -> list[str]:
        wanted = RegistryQuery(since=START + timedelta(seconds=seconds))
        return [each.server.record.id for each in fleet.index.page(wanted, None, 10)[0]]

    assert since(-60) == ["a"]
    assert since(-59) == []
    fleet.wait(10)
    fleet.put(instance("b", name="late", registryName="x/late", age=-2))
    assert fleet.one(name="x/late").updated == START + timedelta(seconds=2)
    assert since(9) == ["b"]
    assert since(11) == []
    fleet.wait(5)
    fleet.put(instance("a", age=60, title="Another"))
    assert since(11) == ["a"]
    fleet.wait(5)
    fleet.remove("b")
    assert since(11) == ["a", "b"]
    assert since(16) == ["b"]
    assert since(21) == []


# -- addresses --------------------------------------------------------------------------------


def test_the_address_stays_while_its_instance_lives() -> None:
    first, second, third = (instance(id, age=age) for id, age in (("a", 3), ("b", 2), ("c", 1)))
    fleet = Fleet(third, second, first)
    assert url(fleet) == at("a")
    fleet.put(turned(first, Status.DEGRADED))
    assert url(fleet) == at("a")
    fleet.put(turned(first, Status.DOWN))
    assert url(fleet) == at("b")
    fleet.put(first)
    assert url(fleet) == at("b"), "it does not go back: each move costs a host a new configuration"
    fleet.remove("b")
    assert url(fleet) == at("a")
    fleet.put(turned(first, Status.DRAINING))
    assert url(fleet) == at("c")


def test_with_all_of_them_down_the_address_stays() -> None:
    first, second = instance("a", age=3), instance("b", age=2)
    fleet = Fleet(first, second)
    before = fleet.told()
    fleet.put(turned(second, Status.DOWN), turned(first, Status.DOWN))
    assert url(fleet) == at("a")
    assert fleet.told() == before | {"statusMessage": "down: is down"}
    fleet.put(second)
    assert url(fleet) == at("b")


def test_the_longest_registered_healthy_one_is_chosen_first() -> None:
    fleet = Fleet(
        instance("a", age=9, status=Status.DOWN),
        instance("b", age=8, status=Status.DEGRADED),
        instance("c", age=6),
        instance("d", age=7),
        instance("e", age=10, endpoint={"transport": "stdio", "command": "x"}),
    )
    assert url(fleet) == at("d")


@pytest.mark.parametrize(
    ("address", "base", "transport", "published"),
    [
        ("instance", "", "sse", "http://10.0.0.1/x"),
        (
            "facade",
            "https://f.example/up/",
            "streamable-http",
            "https://f.example/up/gateway/weather/mcp",
        ),
        ("facade", "https://f.example", "sse", "http://10.0.0.1/x"),
        (
            "https://{name}.vip.example/mcp",
            "",
            "streamable-http",
            "https://weather.vip.example/mcp",
        ),
        ("https://{name}.vip.example/mcp", "", "sse", "https://weather.vip.example/mcp"),
    ],
)
def test_an_address_of_ones_own_choice(
    address: str, base: str, transport: str, published: str
) -> None:
    endpoint = {"transport": transport, "url": "http://10.0.0.1/x"}
    fleet = Fleet(instance("a", endpoint=endpoint), address=address, base=base)
    remote = fleet.one().server.remote
    assert remote is not None
    assert (remote.type, remote.url) == (transport, published)


def test_a_vip_does_not_move_with_the_instances() -> None:
    first, second = instance("a", age=3), instance("b", age=2)
    fleet = Fleet(first, second, address="https://{name}.vip.example/mcp")
    before = fleet.told()
    fleet.wait(1)
    fleet.put(turned(first, Status.DOWN))
    fleet.remove("a")
    assert fleet.told() == before


@pytest.mark.parametrize(
    ("by", "given", "published"),
    [
        ("sidecar", "http://h:1/", "http://h:1/"),
        ("facade", "http://h:1", "http://h:1/mcp"),
        ("facade", "http://h:1/", "http://h:1/mcp"),
        ("facade", "http://h:1/x", "http://h:1/x"),
    ],
)
def test_a_posted_url_without_a_path_has_the_usual_one(by: str, given: str, published: str) -> None:
    fleet = Fleet(
        instance("a", by="sidecar" if by == "sidecar" else "facade", endpoint={"url": given})
    )
    assert url(fleet) == published


# -- memory -----------------------------------------------------------------------------------


def test_what_is_gone_is_forgotten_after_a_week() -> None:
    fleet = Fleet(instance("a", version="1.0.0"), instance("b", version="2.0.0"))
    fleet.remove("b")
    fleet.wait(1)
    fleet.remove("a")
    assert fleet.one(deleted=True).key[1] == "2.0.0"
    fleet.wait(registry_index.REMEMBERED_FOR - 1)
    assert [each.key[1] for each in fleet.everything()] == ["1.0.0"]
    assert fleet.told(deleted=True)["isLatest"] is True
    fleet.wait(1)
    assert fleet.everything() == []
    fleet.put(instance("a", version="1.0.0"))
    assert fleet.told()["isLatest"] is True


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_index, "MOST_REMEMBERED", 2)
    fleet = Fleet(*(instance(f"i{n}", version=f"{n}.0.0") for n in range(4)))
    for n in (1, 3, 0):
        fleet.wait(1)
        fleet.remove(f"i{n}")
    assert [each.key[1] for each in fleet.everything()] == ["0.0.0", "2.0.0", "3.0.0"]


# -- all of it at once --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_changes_one_by_one_end_where_a_whole_list_does(seed: int) -> None:
    chance = seeded(seed)
    fleet, there = Fleet(), dict[str, Instance]()
    for _ in range(150):
        fleet.wait(1)
        id = f"i{chance.randrange(12)}"
        if chance.random() < 0.3:
            there.pop(id, None)
        else:
            name = chance.choice("xyz")
            there[id] = instance(
                id,
                status=chance.choice(list(Status)),
                name=name,
                registryName=f"p/{name}",
                version=chance.choice(("1.0.0", "1.1.0", "2.0.0")),
                title=chance.choice(("One", "Two")),
                age=chance.randrange(50),
            )
        step = chance.random()
        if step < 0.1:
            fleet.replace(there.values())
        elif id in there:
            fleet.put(there[id])
        else:
            fleet.remove(id)
    fresh = Fleet(*there.values())
    shape = [
        (each.key, each.is_latest, {one.id for one in each.instances})
        for each in fleet.everything()
        if not each.deleted
    ]
    assert shape == [
        (each.key, each.is_latest, {one.id for one in each.instances})
        for each in fresh.everything()
    ]
    keys = [each.key for each in fleet.everything()]
    assert keys == sorted(set(keys))
    for name in {key[0] for key in keys}:
        assert sum(each.is_latest for each in fleet.everything() if each.key[0] == name) == 1


async def test_the_first_list_is_read_with_pauses_and_to_the_same_end() -> None:
    many = [
        instance(f"i{n}", registryName=f"a.b/s{n % 1500}", version=f"1.{n // 1500}.0", age=n)
        for n in range(3000)
    ]
    fleet = Fleet(*many)
    sliced = RegistryIndex(fleet.catalog, fleet.index.addresses, now=lambda: fleet.now)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    both = await asyncio.gather(sliced.refreshed(), sliced.refreshed())
    task.cancel()
    assert turns > 1
    assert both[0] is both[1] is sliced
    assert sliced.generation == 1, "it was read once"
    everything = RegistryQuery(deleted=True)
    told = [each.json(START) for each in sliced.page(everything, None, 5000)[0]]
    assert told == [each.json(START) for each in fleet.everything(5000)]


async def test_who_cannot_wait_for_the_first_list_reads_it_at_once() -> None:
    fleet = Fleet(*(instance(f"i{n}", registryName=f"a.b/s{n}") for n in range(3000)))
    index = RegistryIndex(fleet.catalog, fleet.index.addresses, now=lambda: fleet.now)
    waiting = asyncio.create_task(index.refreshed())
    await asyncio.sleep(0)
    assert index.version("a.b/s7", "latest") is not None
    fleet.remove("i7")
    assert index.version("a.b/s7", "latest") is None
    await waiting
    assert index.version("a.b/s7", "latest") is None
    assert len(index.latest()) == 2999
