"""``mcp-discovery token``: the file stays as people wrote it, and what is made counts at once."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcp_discovery.facade.access.auth_file import read
from mcp_discovery.facade.access.token_file import add, remove
from mcp_discovery.facade.access.tokens import TokenEntry, find, hash_of, new_token
from tests.facade.harness import served
from tests.programs import command
from tests.stores.waiting import until

FILE = """\
# who may do what
roles:
  reader: read   # everything
  'ops': [read, admin]

tokens:
  # the old one
  ci:
    hash: sha256:{zeros}
    roles: reader   # nothing else
    note: |
      several
      lines
  # the last one
  bot: {{hash: "sha256:{zeros}", roles: [ops]}}

anonymous: reader
# the end
""".format(zeros="0" * 64)


def entry(token: str) -> TokenEntry:
    return TokenEntry(hash=hash_of(token), roles=["reader"])


async def test_a_token_is_made_counts_and_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "auth.yaml"
    file.write_text("roles: {reader: read}\n")
    named = ("--auth", str(file))
    async with served(auth=str(file)) as ask:
        made = await command(
            *("token", "create", "alice", "--role", "reader", "--expires", "90d", *named),
            *("--note", "her: laptop"),
        )
        assert made.code == 0, made.err
        token = made.out.strip()
        assert token.startswith("mcpd_alice_")
        assert token not in file.read_text() + made.err
        assert "take it within a second" in made.err

        async def status(wanted: int) -> bool:
            headers = {"Authorization": f"Bearer {token}"}
            return (await ask("GET", "/servers", headers=headers)).status == wanted

        await until(lambda: status(200), timeout=10, what="the new token counting")
        listed = await command("token", "list", "--json", *named)
        shown = json.loads(listed.out)
        assert (shown["id"], shown["roles"], shown["note"]) == ("alice", ["reader"], "her: laptop")
        assert not shown["expired"]
        revoked = await command("token", "revoke", "alice", *named)
        assert (revoked.code, revoked.out) == (0, "revoked alice\n")
        await until(lambda: status(401), timeout=10, what="the token being refused")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "alice", "--role", "nobody"), "'nobody' is not known"),
        (("create", "ci", "--role", "reader"), "a token ci already"),
        (("create", "Alice", "--role", "reader"), "is no id of a token"),
        (("create", "a", "--role", "reader", "--expires", "soon"), "is no time"),
        (("create", "a", "--role", "reader", "--expires", "2020-01-01"), "is over already"),
        (("revoke",), "by their ids"),
        (("revoke", "alice"), "has no token alice"),
        (("revoke", "--subject", "alice"), "has no token of alice"),
    ],
)
async def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    file = tmp_path / "auth.yaml"
    file.write_text(FILE)
    ended = await command("token", *arguments, "--auth", str(file))
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert file.read_text() == FILE


def test_what_people_wrote_stays(tmp_path: Path) -> None:
    file = tmp_path / "auth.yaml"
    file.write_text(FILE)
    file.chmod(0o640)
    token = new_token("one")
    add(str(file), "one", entry(token))
    assert find(token, read(file.read_bytes(), "f").tokens) is not None
    assert os.stat(file).st_mode & 0o777 == 0o640
    added = file.read_text().splitlines()
    assert [each for each in added if each not in FILE.splitlines()] == [
        "  one:",
        f"    hash: {hash_of(token)}",
        '    roles: ["reader"]',
    ]
    assert remove(str(file), lambda id, _: id == "one") == ["one"]
    assert file.read_text() == FILE
    assert remove(str(file), lambda id, _: id == "ci") == ["ci"]
    assert read(file.read_bytes(), "f").tokens.keys() == {"bot"}
    assert remove(str(file), lambda id, _: True) == ["bot"]
    assert read(file.read_bytes(), "f").tokens == {}
    add(str(file), "one", entry(token))
    assert read(file.read_bytes(), "f").tokens.keys() == {"one"}
    assert "# the end" in file.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "roles: {reader: read}",
        "roles: {reader: read}\ntokens:",
        "roles: {reader: read}\ntokens: {}\n",
        "roles: {reader: read}\ntokens: {}  # none\nanonymous: reader\n",
        "limits: {default: {reads: 600/minute}}\nroles: {reader: read}\ntokens: {}\n",
        "tokens:\n# none yet\nroles: {reader: read}\n",
        "tokens:\n\n\nroles:\n  reader: read\n",
        "tokens:\n        a:\n          hash: sha256:%s\nroles: {reader: read}\n" % ("0" * 64),
        "\ufeffroles: {reader: read}\n",
        "roles: {reader: read}\r\n",
    ],
)
def test_a_token_finds_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "auth.yaml"
    file.write_text(text)
    before = read(file.read_bytes(), "f")
    add(str(file), "one", entry(new_token("one")))
    assert read(file.read_bytes(), "f").tokens.keys() == {*before.tokens, "one"}
    remove(str(file), lambda id, _: id == "one")
    assert read(file.read_bytes(), "f") == before


@pytest.mark.parametrize("text", ['{"roles": {"reader": "read"}}', "{roles: {reader: read}}\n"])
def test_a_file_in_another_style_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "auth.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="by hand"):
        add(str(file), "one", entry(new_token("one")))
    assert file.read_text() == text
    assert os.listdir(tmp_path) == ["auth.yaml"]


def test_nothing_is_lost_between_two(tmp_path: Path) -> None:
    file = tmp_path / "auth.yaml"
    file.write_text("roles: {reader: read}\n")
    ids = [f"t{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda id: add(str(file), id, entry(new_token(id))), ids))
    assert read(file.read_bytes(), "f").tokens.keys() == set(ids)
