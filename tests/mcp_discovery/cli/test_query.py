"""``mcp-discovery query`` against a real facade."""

from __future__ import annotations

import json
from pathlib import Path

from tests.programs import AskedFacade, command, facade
from tests.stores.waiting import until

YAML = """\
description: Who talks
filters: {tags: talk}
fallbacks:
  - filters: {tags: [spare]}
"""


async def _ask(asked: AskedFacade, *arguments: str) -> tuple[int, str, str]:
    ended = await command("query", *arguments, MCP_DISCOVERY_FACADE=asked.url)
    return ended.code, ended.out, ended.err


async def test_a_query_is_kept_asked_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "talk.yaml"
    file.write_text(YAML)
    async with facade(tmp_path, "embedded:") as asked:
        code, out, err = await _ask(asked, "list")
        assert (code, out) == (0, "")
        assert "query put NAME FILE" in err
        assert await _ask(asked, "put", "talk", str(file)) == (0, "kept talk\n", "")
        assert await _ask(asked, "put", "talk", str(file)) == (0, "replaced talk\n", "")
        code, out, err = await _ask(asked, "put", "talk", str(file), "--new")
        assert (code, out) == (1, "")
        assert "was changed meanwhile" in err
        code, out, _ = await _ask(asked, "list")
        assert out.splitlines()[1].split() == ["talk", "1", "Who", "talks"]
        code, out, _ = await _ask(asked, "list", "--json")
        etag = json.loads(out)["etag"]
        code, out, _ = await _ask(asked, "put", "talk", str(file), "--etag", etag, "--json")
        assert json.loads(out)["definition"]["fallbacks"] == [{"filters": {"tags": ["spare"]}}]
        code, out, _ = await _ask(asked, "get", "talk")
        assert (code, out) == (0, "No server matches, nor any of its fall-backs.\n")
        server = tmp_path / "server.json"
        server.write_text(
            '{"id": "a", "name": "spare", "url": "http://127.0.0.1:9/mcp", "tags": ["spare"]}'
        )
        registered = await command("register", str(server), MCP_DISCOVERY_FACADE=asked.url)
        assert registered.code == 0, registered
        file.write_text(
            '{"filters": {"tags": "talk"}, "fallbacks": [{"filters": {"status": "all"}}]}'
        )
        assert (await _ask(asked, "put", "talk", str(file)))[0] == 0

        async def found() -> tuple[int, str, str] | None:
            ended = await _ask(asked, "get", "talk", "--json")
            return ended if ended[1] else None

        ended = await until(found, timeout=20, what="the server being found")
        assert ended is not None
        assert json.loads(ended[1])["id"] == "a"
        code, out, err = await _ask(asked, "get", "talk", "--zone", "x", "--limit", "1")
        assert "spare" in out
        assert err == "Answered by fall-back 1.\n"
        code, out, _ = await _ask(asked, "get", "talk", "--definition", "--json")
        assert json.loads(out)["filters"] == {"tags": "talk"}
        assert await _ask(asked, "delete", "talk") == (0, "removed talk\n", "")


async def test_bad_input_is_one_sentence_and_an_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "query.json"
    file.write_text('{"filters": {"tagz": "talk"}}')
    other = tmp_path / "other.json"
    other.write_text("[]")
    async with facade(tmp_path, "embedded:") as asked:
        for arguments, problem in (
            (("put", "talk", str(file)), "did you mean 'tags'?"),
            (("put", "talk", str(other)), "is no definition"),
            (("put", "No Name", str(file)), "is no name of a query"),
            (("put", "talk", str(file), "--new", "--etag", "1"), "leave one out"),
            (("get", "talk"), "there is no query 'talk'"),
            (("delete", "talk"), "there is no query 'talk'"),
        ):
            code, out, err = await _ask(asked, *arguments)
            assert (code, out) == (2, ""), err
            assert problem in err
            assert len(err.splitlines()) == 1
