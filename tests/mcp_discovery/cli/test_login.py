"""``login``, ``logout``, ``whoami``, and what the commands that ask a facade do with a login."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_discovery.bearer_tokens import BearerToken
from mcp_discovery.cli import login, logout, stored_logins
from mcp_discovery.cli.doctor.case import Case
from mcp_discovery.cli.doctor.facade import check_facade
from mcp_discovery.cli.doctor.server_names import check_server_names
from mcp_discovery.cli.facade_connection import facade_api, get
from mcp_discovery.errors import (
    InvalidInputError,
    StoreUnavailableError,
    TokenError,
    UnauthenticatedError,
)
from mcp_discovery.facade.access.tokens import hash_of
from tests.facade.access.tokens import ROLES, TOKENS, bearer, guarded
from tests.facade.harness import Client
from tests.mcp_discovery.oauth.issuer import OddIssuer, odd_issuer
from tests.programs import command
from tests.stores.waiting import until


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of this test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[OddIssuer]:
    async with odd_issuer() as found:
        yield found


@pytest_asyncio.fixture
async def facade(tmp_path: Path) -> AsyncIterator[Client]:
    async with guarded(tmp_path) as ask:
        yield ask


async def log_in(facade: Client, issuer: OddIssuer, **given: Any) -> int:
    usual: dict[str, Any] = {
        "client_id": "mcp-discovery",
        "secret_file": None,
        "issuer": issuer.url,
        "scope": None,
        "resource": None,
    }
    return await login._login(facade.url, **(usual | given))


async def list_of(url: str) -> Any:
    async with facade_api(url) as api:
        return (await get(api, "/servers"))["servers"]


async def test_a_person_logs_in_by_device_code_and_commands_use_that(
    facade: Client, issuer: OddIssuer, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    with pytest.raises(UnauthenticatedError):
        await list_of(facade.url)
    issuer.refusing("device_code", "authorization_pending")
    issuer.granting("device_code", TOKENS["reader"], expires_in=600, refresh_token="r-1")
    assert await log_in(facade, issuer) == 0
    said = capsys.readouterr()
    assert f"Logged in to {facade.url}." in said.out
    for part in ("WDJB-MJHT", f"{issuer.url}/device", f"{issuer.url}/device?user_code=WDJB-MJHT"):
        assert part in said.err
    assert issuer.forms[0] == {
        "client_id": "mcp-discovery",
        "scope": "offline_access",
        "resource": facade.url,
    }
    [file] = config.rglob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert await list_of(facade.url) == []
    assert await list_of(facade.url + "/") == []
    assert TOKENS["reader"] not in repr(stored_logins.find(facade.url))
    ended = await command("whoami", "--facade", facade.url, XDG_CONFIG_HOME=str(config))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "reader (roles: reader) may read\n"


async def test_slow_down_and_a_server_that_is_away_make_the_polls_rarer(
    facade: Client, issuer: OddIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_SLOWER", 0.3)
    issuer.refusing("device_code", "slow_down")
    issuer.answers["device_code"].append((503, {}))
    issuer.granting("device_code", TOKENS["reader"])
    began = time.monotonic()
    assert await log_in(facade, issuer) == 0
    assert time.monotonic() - began > 0.1 + 0.4 + 0.8  # twice the interval after the failure


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [("access_denied", 4, "access_denied"), ("expired_token", 8, "nobody has entered the code")],
)
async def test_what_ends_a_login(
    facade: Client,
    issuer: OddIssuer,
    capsys: pytest.CaptureFixture[str],
    error: str,
    code: int,
    says: str,
) -> None:
    issuer.refusing("device_code", error)
    assert await log_in(facade, issuer) == code
    assert says in capsys.readouterr().err
    issuer.device(expires_in=0.05)
    assert await log_in(facade, issuer) == 8
    assert "nobody has entered the code in time" in capsys.readouterr().err
    assert stored_logins.find(facade.url) is None
    with pytest.raises(StoreUnavailableError, match="is it running"):
        await login._login(facade.url, "x", None, "http://127.0.0.1:9", None, None)


async def test_a_machine_logs_in_with_its_secret(
    facade: Client, issuer: OddIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("geheim\n")
    issuer.granting("client_credentials", TOKENS["reader"], expires_in=10)
    assert await log_in(facade, issuer, client_id="ci", secret_file=str(file), scope="read") == 0
    assert await list_of(facade.url) == []  # its end is near: another one is fetched
    grants = [each["grant_type"] for each in issuer.forms]
    assert grants == ["client_credentials", "client_credentials"]
    assert issuer.forms[1] == issuer.forms[0]
    assert "geheim" not in stored_logins.path_of(facade.url).read_text()


def stored(facade: Client, issuer: OddIssuer, **more: Any) -> stored_logins.StoredLogin:
    given = {"access_token": TOKENS["reader"], "refresh_token": "r-1"} | more
    login = stored_logins.StoredLogin(facade.url, issuer.url, "mcp-discovery", **given)
    stored_logins.save(login)
    return login


async def test_commands_at_once_use_a_refresh_token_once(facade: Client, issuer: OddIssuer) -> None:
    stored(facade, issuer, expires_at=time.time() - 5)
    issuer.granting("refresh_token", TOKENS["reader"], expires_in=600, refresh_token="r-2")
    issuer.refusing("refresh_token", "invalid_grant")
    assert await asyncio.gather(*(list_of(facade.url) for _ in range(8))) == [[]] * 8
    [form] = issuer.forms
    assert form["refresh_token"] == "r-1"
    found = stored_logins.find(facade.url)
    assert found is not None and found.refresh_token == "r-2"


async def test_a_command_that_waits_no_longer_loses_no_refresh_token(
    facade: Client, issuer: OddIssuer
) -> None:
    stored(facade, issuer, expires_at=time.time() - 5)
    issuer.granting("refresh_token", TOKENS["reader"], expires_in=600, refresh_token="r-2")
    token = stored_logins.token_for(facade.url)
    assert callable(token)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):  # cancelled at once
            await BearerToken("token", token).current()

    async def kept() -> bool:
        found = stored_logins.find(facade.url)
        return found is not None and found.refresh_token == "r-2"

    await until(kept, timeout=20, what="the new refresh token being kept")


async def test_a_token_that_the_facade_refuses_is_renewed_whatever_the_clock_says(
    facade: Client, issuer: OddIssuer
) -> None:
    stored(facade, issuer, access_token="mcpd_reader_" + "x" * 43, expires_at=time.time() + 600)
    issuer.granting("refresh_token", TOKENS["reader"], expires_in=600)
    assert await list_of(facade.url) == []
    found = stored_logins.find(facade.url)
    assert found is not None and found.refresh_token == "r-1"  # the issuer left it as it was


async def test_a_login_whose_end_has_come_says_how_to_log_in_again(
    facade: Client, issuer: OddIssuer, config: Path
) -> None:
    stored(facade, issuer, expires_at=time.time() - 5)
    issuer.refusing("refresh_token", "invalid_grant")
    ended = await command("servers", "--facade", facade.url, XDG_CONFIG_HOME=str(config))
    assert ended.code == 4
    assert "invalid_grant; run: mcp-discovery login --facade " + facade.url in ended.err
    assert ended.err.count("\n") == 1
    # An issuer that is away is no reason to refuse what is valid for some seconds more.
    stored(facade, issuer, expires_at=time.time() + 20)
    issuer.answers["refresh_token"] = [(503, {})]
    assert await list_of(facade.url) == []
    stored(facade, issuer, expires_at=time.time() - 5, refresh_token=None)
    with pytest.raises(UnauthenticatedError, match="your login has ended"):
        await list_of(facade.url)
    with pytest.raises(TokenError, match="logged out"):
        token = stored_logins.token_for(facade.url)
        stored_logins.remove(stored_logins.path_of(facade.url))
        assert callable(token)
        await BearerToken("token", token).current()


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("{", 0o600, "is damaged; run: mcp-discovery login"),
        ("[1]", 0o600, "is damaged"),
        ('{"facade": "x"}', 0o600, "is damaged"),
        ('{"facade": 1, "issuer": 1, "client_id": 1, "access_token": 1}', 0o600, "is damaged"),
        (None, 0o644, "others can read your login"),
        (None, 0o640, "others can read your login"),
    ],
)
async def test_a_login_that_cannot_be_trusted_is_one_sentence(
    facade: Client, issuer: OddIssuer, content: str | None, mode: int, says: str
) -> None:
    stored(facade, issuer)
    path = stored_logins.path_of(facade.url)
    if content is not None:
        path.write_text(content)
    path.chmod(mode)
    with pytest.raises(InvalidInputError, match=says):
        await list_of(facade.url)
    async with facade_api(facade.url, TOKENS["reader"]) as api:  # one that is given goes before it
        await get(api, "/servers")
    assert await logout._logout(facade.url) == 0
    assert stored_logins.find(facade.url) is None


async def test_logging_out_revokes_the_tokens(
    facade: Client, issuer: OddIssuer, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(facade, issuer)
    assert await logout._logout(None) == 0
    assert issuer.forms == [{"client_id": "mcp-discovery", "token": "r-1"}]
    stored(facade, issuer)
    issuer.metadata["issuer"] = "https://another.example"
    assert await logout._logout(facade.url) == 0
    said = capsys.readouterr()
    assert said.out == f"Logged out of {facade.url}.\n" * 2
    assert "are not revoked" in said.err
    assert await logout._logout(facade.url) == 0
    assert "There is no login at" in capsys.readouterr().out


async def test_a_facade_that_takes_tokens_of_its_own_alone_says_so(
    facade: Client,
) -> None:
    with pytest.raises(InvalidInputError, match="tokens of its own alone; ask its operator"):
        await login._login(facade.url, "mcp-discovery", None, None, None, None)


async def test_doctor_says_whether_credentials_are_wanted_and_taken(
    facade: Client, tmp_path: Path
) -> None:
    async def found(**given: Any) -> list[str]:
        case = Case(facade=facade.url, **given)
        return [f"{each.state}: {each.message}" async for each in check_facade(case)]

    assert "wrong: it wants credentials, and none are given" in await found()
    refused = await found(facade_token="mcpd_reader_" + "x" * 43)
    assert any(each.startswith("wrong: it wants credentials and refuses these") for each in refused)
    taken = "ok: it takes these credentials, of reader (roles: reader), who may read"
    assert taken in await found(facade_token=TOKENS["reader"])
    file = tmp_path / "token"
    file.write_text(TOKENS["reader"])
    assert taken in await found(facade_token_file=str(file))


async def test_every_check_of_the_doctor_has_the_credentials(
    facade: Client, issuer: OddIssuer, tmp_path: Path
) -> None:
    """Whichever way they are given: itself, in a file, or by a login."""
    file = tmp_path / "token"
    file.write_text(TOKENS["reader"])
    checks = (check_facade, check_server_names)

    async def found(**given: Any) -> list[str]:
        case = Case(facade=facade.url, **given)
        return [f"{each.state}: {each.message}" for check in checks async for each in check(case)]

    ways: list[dict[str, str]] = [
        {"facade_token": TOKENS["reader"]},
        {"facade_token_file": str(file)},
        {},
    ]
    assert "unchecked: whether each name is one server's: the facade cannot be asked" in (
        await found()
    )
    stored(facade, issuer, access_token=TOKENS["reader"])
    for given in ways:
        said = await found(**given)
        assert "ok: each of 0 names is one server's" in said, (given, said)
        assert not any("cannot be asked" in each for each in said)


async def test_whoami_tells_what_is_for_some_servers_or_tools_only(tmp_path: Path) -> None:
    """A role of a few tools may not do everything to everything, and is told so."""
    roles = dict(ROLES) | {"both": "knowledge:read report"}
    mine = {"hash": hash_of(TOKENS["reader"]), "subject": "me", "roles": "both"}
    async with guarded(tmp_path, {"roles": roles, "tokens": {"reader": mine}}) as ask:
        found = await ask("GET", "/whoami", headers=bearer("reader"))
        assert (found.json["verbs"], found.json["partial"]) == (
            ["read", "call", "report"],
            ["read", "call"],
        )
        ended = await command(
            "whoami", MCP_DISCOVERY_FACADE=ask.url, MCP_DISCOVERY_FACADE_TOKEN=TOKENS["reader"]
        )
        assert ended.out == (
            "me (roles: both) may report; read, call for some names or tools only\n"
        )


async def test_a_file_of_a_token_that_is_not_there_is_named_as_what_it_is(facade: Client) -> None:
    ended = await command(
        "servers",
        MCP_DISCOVERY_FACADE=facade.url,
        MCP_DISCOVERY_FACADE_TOKEN_FILE="/no/such/file",
    )
    assert (ended.code, ended.err) == (
        2,
        "mcp-discovery: cannot read /no/such/file for the facade's token (--facade-token-file): "
        "No such file or directory\n",
    )


async def test_a_missing_right_is_one_sentence_and_its_own_exit_code(
    facade: Client, tmp_path: Path
) -> None:
    file = tmp_path / "servers.json"
    file.write_text(json.dumps({"name": "a", "url": "http://127.0.0.1:9/mcp"}))
    for name in ("register", "import"):
        ended = await command(
            *(name, str(file)),
            MCP_DISCOVERY_FACADE=facade.url,
            MCP_DISCOVERY_FACADE_TOKEN=TOKENS["reader"],
        )
        assert ended.code == 4
        assert "reader (roles: reader) has no right to register; ask for a role" in ended.err
    ended = await command("whoami", MCP_DISCOVERY_FACADE=facade.url)
    assert ended.code == 4
    assert ended.err == (
        f"mcp-discovery: {facade.url}: it does not know who asks; run: mcp-discovery login, or "
        "give a token by MCP_DISCOVERY_FACADE_TOKEN or --facade-token-file\n"
    )


async def test_a_secret_on_the_command_line_is_warned_of(facade: Client) -> None:
    ended = await command("servers", "--facade", facade.url, "--facade-token", TOKENS["reader"])
    assert ended.code == 0
    assert ended.err.startswith(
        "mcp-discovery: every user of this machine can read the secret of --facade-token in its "
        "process; give it by MCP_DISCOVERY_FACADE_TOKEN, or in a file by --facade-token-file\n"
    )
    assert TOKENS["reader"] not in ended.err
    asked = ("servers", "--facade", facade.url)
    ended = await command(*asked, MCP_DISCOVERY_FACADE_TOKEN=TOKENS["reader"])
    assert "every user" not in ended.err
    sidecar = ("sidecar", "--store", "embedded:", "--url", "http://127.0.0.1:9/mcp")
    secrets = ("--store-token", "a", "--server-token=b", "--store-password", "c")
    ended = await command(*sidecar, *secrets)
    assert ended.err.count("every user") == 3


def test_the_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for given in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", given)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert stored_logins.folder() == tmp_path / ".config/mcp-discovery/logins"
    # It is the same facade, however its address is written.
    same = {stored_logins.path_of(each) for each in ("https://h", "https://H:443/")}
    assert len(same | {stored_logins.path_of("https://h:4000")}) == 2


def test_who_has_no_home_has_no_login_and_is_told_so_by_login(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container whose user is a number."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert stored_logins.find("http://127.0.0.1:4000") is None
    with pytest.raises(InvalidInputError, match="no home directory"):
        stored_logins.path_of("http://127.0.0.1:4000")
