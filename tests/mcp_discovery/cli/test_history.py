"""``mcp-discovery history``, and a facade that was killed."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from mcp_discovery.cli.moments import moment, shown
from mcp_discovery.errors import InvalidInputError
from tests.facade.harness import Client
from tests.facade.history.past import Registered, tools
from tests.programs import AskedFacade, command, facade


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AskedFacade]:
    """A facade at which a server came, was down, and offered something else."""
    folder = tmp_path_factory.mktemp("history")
    async with facade(folder, "embedded:") as found, aiohttp.ClientSession() as http:
        shop = await Registered.new(Client(found.url, http), "shop-1")
        await shop.offer(tools(buy="Buys one thing"), version="1.0.0")
        await shop.beat("down", "refused \x1b[2J it")
        await shop.offer(tools(buy="Buys two things", sell="Sells"), version="1.1.0")
        yield found


async def told(asked: AskedFacade, *arguments: str) -> str:
    done = await command("history", *arguments, MCP_DISCOVERY_FACADE=asked.url, TZ="Etc/GMT-3")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    return done.out


async def test_every_change(asked: AskedFacade) -> None:
    head, *rows = (await told(asked, "shop")).splitlines()
    assert head.split("  ")[0] == "TIME"
    assert [re.split(r"\s{2,}", row)[1:4] for row in rows[:2]] == [
        ["shop-1", "down", "version, digest"],
        ["shop-1", "down", "status, reason"],
    ]
    assert " +03 " in rows[0]
    assert rows[-2].startswith("last day: ")
    assert re.search(r"healthy \d+\.\d+%, down \d+\.\d+% of \d+ s watched$", rows[-1])


async def test_one_line_for_a_moment(asked: AskedFacade) -> None:
    assert re.fullmatch(
        r"shop was down at \d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? \+03: refused \\x1b\[2J it, since "
        r"\d\d:\d\d(:\d\d)? \+03; 1 instance\n",
        await told(asked, "shop", "--at", "now"),
    )
    assert "nothing is known of shop at" in await told(asked, "shop", "--at", "yesterday 16:00")
    found = json.loads(await told(asked, "shop-1", "--at", "now", "--json"))
    assert (found["of"], found["status"]) == ("instance", "down")


async def test_documents(asked: AskedFacade) -> None:
    out = await told(asked, "shop", "--documents")
    assert "  + tools: sell\n" in out
    assert "  ~ tools: buy: description: Buys [-one thing-]{+two things+}\n" in out
    found = json.loads(await told(asked, "shop", "--documents", "--json"))
    assert [each["versions"] for each in found["documents"][:2]] == [["1.1.0"], ["1.0.0"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("shop", "--at", "noon"), "--at 'noon' is no time; write 2026-11-30T16:00, "),
        (("shop", "--from", "25:00"), "--from '25:00' is no time; write "),
        (("shop", "--at", "now", "--to", "now"), "leave --from, --to and --documents out"),
        (("shop", "--documents", "--to", "now"), "leave --from and --to out"),
        (
            ("ship",),
            "no server and no instance 'ship' is known, now or in what is kept of the past",
        ),
        (("shop", "--at", "2999-01-01"), "has not come yet"),
    ],
)
async def test_what_cannot_be_asked(
    asked: AskedFacade, arguments: tuple[str, ...], says: str
) -> None:
    done = await command("history", *arguments, MCP_DISCOVERY_FACADE=asked.url)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.count("\n") == 1


async def test_a_facade_that_was_killed(tmp_path: Path) -> None:
    """What it has written is there; what it has not watched is told; nothing is there twice."""
    kept = {"MCP_DISCOVERY_AUDIT_STORE": f"sqlite:///{tmp_path}/audit.db"}
    store = f"embedded:///{tmp_path}/list.db"
    async with aiohttp.ClientSession() as http:
        async with facade(tmp_path, store, **kept) as first:
            ask = Client(first.url, http)
            shop = await Registered.new(ask, "shop-1")
            for status in ("degraded", "down", "degraded"):
                await shop.beat(status, f"is {status}")
            before = (await ask("GET", "/servers/shop/history")).json
            await shop.beat("healthy", "unseen")
            await first.process.stop(signal.SIGKILL)
        async with facade(tmp_path, store, **kept) as second:
            after = (await Client(second.url, http)("GET", "/servers/shop/history")).json
            statuses = [each["status"] for each in after["changes"]][::-1]
            known = [each["status"] for each in before["changes"]][::-1]
            assert statuses[: len(known)] == known == ["healthy", "degraded", "down", "degraded"]
            listed = (await second.servers())["shop-1"]["status"]
            assert statuses[-1] == listed
            [gap] = after["unwatched"]
            assert before["changes"][0]["at"] <= gap["from"] < gap["to"]
            # Ended in good order it writes what waits.
            shop.ask = Client(second.url, http)
            again = await Registered.new(shop.ask, "shop-2")
            await again.beat("down", "at last")
            await second.process.stop(signal.SIGTERM)
        async with facade(tmp_path, store, **kept) as third:
            found = (await Client(third.url, http)("GET", "/servers/shop-2/history")).json
            assert [each["reason"] for each in found["changes"]][:1] == ["at last"]


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three hours east of UTC."""
    monkeypatch.setenv("TZ", "Etc/GMT-3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


#: A Wednesday.
NOW = datetime(2026, 12, 2, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("now", "2026-12-02T09:30"),
        ("yesterday 16:00", "2026-12-01T13:00"),
        ("Yesterday at 16:00:05", "2026-12-01T13:00:05"),
        ("today", "2026-12-01T21:00"),
        ("07:15", "2026-12-02T04:15"),
        ("monday 8:00", "2026-11-30T05:00"),
        ("wednesday", "2026-11-24T21:00"),
        ("2026-11-30", "2026-11-29T21:00"),
        ("2026-11-30 16:00", "2026-11-30T13:00"),
        ("2026-11-30T16:00", "2026-11-30T13:00"),
        ("2026-11-30T16:00Z", "2026-11-30T16:00"),
        ("2026-11-30T16:00:00.250+01:00", "2026-11-30T15:00:00.250"),
        ("2h ago", "2026-12-02T07:30"),
        ("1.5d  ago", "2026-11-30T21:30"),
    ],
)
def test_times_are_of_this_zone(in_zone: None, text: str, means: str) -> None:
    expected = datetime.fromisoformat(means).replace(tzinfo=UTC)
    assert moment("--at", text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noon",
        "24:00",
        "16",
        "16:60",
        "tomorrow 16:00",
        "x ago",
        "9999999999d ago",
        "2026-13-01",
    ],
)
def test_what_is_no_time(in_zone: None, text: str) -> None:
    with pytest.raises(InvalidInputError, match="is no time; write 2026-11-30T16:00"):
        moment("--at", text, NOW)


def test_how_times_are_shown(in_zone: None) -> None:
    assert shown(NOW) == "2026-12-02 12:30 +03"
    assert shown(NOW.replace(second=7), beside=NOW) == "12:30:07 +03"
