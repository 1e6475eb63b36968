"""``/api/platform/servers`` and ``/api/platform/tools``, as a management API has them."""

from __future__ import annotations

from tests.facade.harness import Client
from tests.facade.tools.test_tools import BUY, ODD, find, post


async def test_servers_are_the_status_page(ask: Client) -> None:
    await post(ask, "a", BUY)
    await post(ask, "z", BUY, health={"status": "down", "reason": "refused"})
    status = (await ask("GET", "/status")).json
    platform = (await ask("GET", "/api/platform/servers")).json
    for each in (*status["servers"], *platform["servers"]):
        each.pop("lastSeen")
    assert platform == status
    assert platform["summary"]["down"] == 1


async def test_tools_of_all_healthy_instances_with_their_server(ask: Client) -> None:
    await post(ask, "a", find(), BUY, tags=["shop"])
    await post(ask, "b", find(), BUY, tags=["shop"])
    await post(ask, "x", ODD | {"serverId": "forged"}, name="exchange", tags=["money"])
    await post(ask, "z", {"name": "gone", "inputSchema": {}}, health={"status": "down"})
    reply = await ask("GET", "/api/platform/tools")
    wanted = [
        *({**each, "serverId": id} for id in ("a", "b") for each in (find(), BUY)),
        {**ODD, "serverId": "x"},
    ]
    assert list(reply.json) == ["tools", "count"]
    assert reply.json["count"] == len(wanted)
    order = lambda each: (each["serverId"], each["name"])  # noqa: E731
    assert sorted(reply.json["tools"], key=order) == sorted(wanted, key=order)
    chosen = (await ask("GET", "/api/platform/tools?tags=money")).json
    assert [each["serverId"] for each in chosen["tools"]] == ["x"]
    tag = {"If-None-Match": reply.headers["ETag"]}
    assert (await ask("GET", "/api/platform/tools", headers=tag)).status == 304
    await post(ask, "c", BUY)
    assert (await ask("GET", "/api/platform/tools", headers=tag)).status == 200


async def test_nothing_else_is_below_the_prefix(ask: Client) -> None:
    await post(ask, "a", BUY)
    for method, path in (
        ("GET", "/servers/a"),
        ("DELETE", "/servers/a"),
        ("GET", "/tools/buy"),
        ("POST", "/servers"),
    ):
        reply = await ask(method, "/api/platform" + path, {} if method == "POST" else None)
        assert reply.status in (404, 405), (method, path)
