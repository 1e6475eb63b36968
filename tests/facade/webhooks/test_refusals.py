"""What is refused, and the sentence that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.webhooks.receivers import follow
from tests.facade.access.tokens import bearer, write_auth_file
from tests.facade.harness import Client, served
from tests.facade.webhooks.receiving import webhooks_file

URL = "https://hooks.example.com/in"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"url": "hooks.example.com"}, "receivers.all.url"),
        ({"url": URL, "events": "server.registred"}, "did you mean server.registered?"),
        ({"url": URL, "filter": {"tag": "a"}}, "did you mean 'tags'?"),
        ({"url": URL, "filter": {"status": "dwn"}}, "did you mean 'down'?"),
        ({"url": URL, "secret": "whsec_x"}, "receivers.all.secret"),
        ({"url": URL, "secret": {"env": "NOT_SET_AT_ALL"}}, "NOT_SET_AT_ALL is not set"),
        ({"url": URL, "evnts": []}, "did you mean events?"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, section: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError) as found:
        follow(webhooks_file(tmp_path, all=section))
    assert words in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("text", ["", "hunter2", "whsec_c2hvcnQ=", "whsec_%%%%"])
def test_a_secret_that_is_none_is_not_repeated(tmp_path: Path, text: str) -> None:
    file = webhooks_file(tmp_path, (text,), all={"url": URL})
    with pytest.raises(InvalidInputError) as found:
        follow(file)
    assert not text or text not in str(found.value)
    assert "secret" in str(found.value)


async def test_without_the_option_there_are_none(ask: Client) -> None:
    for method, path in (("GET", "/webhooks"), ("POST", "/webhooks/all/test")):
        reply = await ask(method, path)
        assert reply.status == 404
        assert "--webhooks FILE" in reply.json["detail"]


async def test_what_is_not_known(tmp_path: Path) -> None:
    async with served(webhooks=webhooks_file(tmp_path, chat={"url": URL})) as ask:
        reply = await ask("GET", "/webhooks/chta/deliveries")
        assert (reply.status, "did you mean 'chat'" in reply.json["detail"]) == (404, True)
        reply = await ask("POST", "/webhooks/chat/deliveries/msg_1/redeliver")
        assert (reply.status, "lists what has one" in reply.json["detail"]) == (404, True)
        assert (await ask("GET", "/webhooks/chat/deliveries?state=ded")).status == 400


async def test_administrators_of_everything_alone_see_them(tmp_path: Path) -> None:
    auth = write_auth_file(
        tmp_path / "auth.yaml",
        roles={"operator": "read admin", "registrar": "part", "reader": "read"},
        scopes={"part": [{"verbs": ["read", "admin"], "names": ["shop-*"]}]},
        tokens={},
    )
    auth = write_auth_file(
        tmp_path / "auth.yaml",
        scopes={"part": [{"verbs": ["read", "admin"], "names": ["shop-*"]}]},
        roles={"operator": "read admin", "registrar": "part", "reader": "read"}
        | dict.fromkeys(("employee", "manager", "admin"), "read"),
    )
    file = webhooks_file(tmp_path, chat={"url": URL})
    async with served(webhooks=file, auth=auth) as ask:
        for role, status in (("operator", 200), ("registrar", 403), ("reader", 403)):
            assert (await ask("GET", "/webhooks", headers=bearer(role))).status == status, role
        assert (await ask("GET", "/webhooks")).status == 401
