"""``mcp-discovery webhooks``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.facade.harness import leased, served
from tests.facade.webhooks.receiving import ReceivingServer, webhooks_file
from tests.programs import command
from tests.stores.waiting import until_holds


async def test_list_test_and_redeliver(tmp_path: Path) -> None:
    async with ReceivingServer(status=500).serving() as hook:
        file = webhooks_file(tmp_path, chat={"url": hook.url})
        async with served(webhooks=file) as ask:
            of: Any = {"MCP_DISCOVERY_FACADE": ask.url}
            done = await command("webhooks", "test", "chat", **of)
            assert (done.code, done.err.strip()) == (1, "chat: it answered 500")
            done = await command("webhooks", "list", **of)
            head, row = done.out.splitlines()
            assert head.split()[:3] == ["NAME", "STATE", "PENDING"]
            assert row.split()[:2] == ["chat", "failing"]
            hook.status = 204
            done = await command("webhooks", "redeliver", "chat", "--dead", **of)
            assert done.code == 0, done.err
            await hook.until("webhook.test")
            await ask("POST", "/servers", leased("a"))
            await until_holds(lambda: len(hook.messages) == 2, timeout=20, what="the change")
            done = await command("webhooks", "list", "chat", "--json", **of)
            told = [json.loads(line) for line in done.out.splitlines()]
            assert [each["type"] for each in told] == ["server.registered", "webhook.test"]
            done = await command("webhooks", "redeliver", "chat", **of)
            assert (done.code, "--dead" in done.err) == (2, True)
            done = await command("webhooks", "test", "cat", **of)
            assert (done.code, "did you mean 'chat'?" in done.err) == (2, True)
