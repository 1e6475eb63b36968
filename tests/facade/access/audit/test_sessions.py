"""Events of people who sign in to the pages, and out, and of those who try to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.audit.recorded import logs
from tests.facade.access.browser import HTML, CookieClient, browser_of
from tests.facade.access.tokens import TOKENS, bearer, guarded
from tests.facade.harness import leased


async def events(browser: CookieClient, query: str) -> list[dict[str, Any]]:
    """What was recorded, as the operator sees it, the oldest first."""
    return (await logs(browser, f"?{query}", headers=bearer("operator")))[::-1]


async def test_signing_in_and_out(tmp_path: Path, settings: AuditSettings) -> None:
    async with guarded(tmp_path, audit=settings) as ask, browser_of(ask) as browser:
        assert (await browser.sign_in("mcpd_registrar_wrong")).status == 401
        assert (await browser.sign_in(TOKENS["registrar"])).status == 303
        right = {"X-CSRF-Token": await browser.csrf()}
        assert (await browser("POST", "/servers", leased("one"))).status == 403
        assert (await browser("POST", "/servers", leased("one"), headers=right)).status == 201
        fields = await browser.form("/ui/me")
        await browser("POST", "/ui/logout", data=fields, headers=HTML)

        sessions = await events(browser, "eventType=session")
        assert [each["operation"]["name"] for each in sessions] == ["sign-in", "sign-out"]
        for each in sessions:
            assert each["actor"]["userId"] == "registrar"
            assert (each["actor"]["by"], each["details"]) == ("token", {"beganBy": "token"})
        change = (await events(browser, "eventType=change"))[0]
        assert change["actor"] == sessions[0]["actor"]
        refused = await events(browser, "eventType=refusal")
        told = [(each["operation"]["route"], each["outcome"]["status"]) for each in refused]
        assert told == [("/ui/login", 401), ("/servers", 403)]
        whole = str(await events(browser, "limit=1000"))
        assert TOKENS["registrar"] not in whole
        assert fields["csrf"] not in whole
