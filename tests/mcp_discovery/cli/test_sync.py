"""``mcp-discovery sync drupal``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.facade.drupal.fake_drupal import KEY, FakeDrupalSite
from tests.facade.harness import leased, served
from tests.programs import command


async def test_sync(tmp_path: Path) -> None:
    async with FakeDrupalSite().serving() as site, served() as ask:
        await ask("POST", "/servers", leased("a"))
        of: Any = {"MCP_DISCOVERY_FACADE": ask.url, "DRUPAL_API_KEY": KEY}
        push = ("sync", "drupal", site.url, "--mode", "push")
        done = await command(*push, "--dry-run", **of)
        assert (done.code, done.out) == (9, "a: created in Drupal\n")
        done = await command(*push, "--api-key", "${DRUPAL_API_KEY}", **of)
        assert (done.code, done.out) == (0, "a: created in Drupal\n")
        done = await command(*push, "--dry-run", **of)
        assert (done.code, done.out, done.err) == (0, "", "1 unchanged.\n")
        site.by_id("a")["title"] = "An editor's"
        await ask("PUT", "/servers/a", leased("a", version="2.0.0"))
        (tmp_path / "key").write_text(f"{KEY}\n")
        given = ("--api-key-file", str(tmp_path / "key"))
        done = await command(*push, *given, MCP_DISCOVERY_FACADE=ask.url)
        assert done.code == 1
        assert done.err.startswith("a: conflict: both sides changed since the last")
        done = await command(*push, "--json", "--field", "title", **of)
        assert (done.code, "OURS=THEIRS" in done.err) == (2, True)
        del of["DRUPAL_API_KEY"]
        done = await command(*push, **of)
        assert (done.code, "set DRUPAL_API_KEY" in done.err) == (2, True)
        done = await command(*push, "--api-key", "wrong", "--json", **of)
        assert done.code == 3
        assert "send another apiKey" in done.err and "wrong" not in done.err
        done = await command(*push, "--api-key", KEY, "--json", **of)
        assert json.loads(done.out)["conflicts"][0]["id"] == "a"
