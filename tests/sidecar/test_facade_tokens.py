"""A sidecar, and the shell beside it, at a facade that wants tokens, each of which ends soon."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.facade.access.issuer import AUDIENCE, StubIssuer, stub_issuer
from tests.facade.access.tokens import TOKENS, guarded
from tests.mcp_discovery.oauth.issuer import odd_issuer
from tests.programs import Running, running
from tests.servers.recording import recording
from tests.stores.waiting import until

#: Seconds for which a token is valid. It is renewed after some two of them.
_VALID = 4
#: How many tokens a sidecar lives through.
_TOKENS = 4


@asynccontextmanager
async def rewritten(file: Path, signer: StubIssuer) -> AsyncIterator[None]:
    """Keeps a token in ``file`` that is valid, as Kubernetes does."""

    async def write() -> None:
        while True:
            new = file.with_suffix(".new")
            new.write_text(signer.token(sub="watch", exp=int(time.time()) + _VALID))
            new.rename(file)
            await asyncio.sleep(_VALID / 4)

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def until_true(found: object, what: str, *logs: Running) -> None:
    assert callable(found)

    async def holds() -> bool:
        return bool(found())

    try:
        await until(holds, timeout=40, what=what)
    except TimeoutError as error:
        raise AssertionError(f"{error}: {[each.log for each in logs]}") from error


async def test_it_stays_registered_and_watched_while_tokens_end(tmp_path: Path) -> None:
    own = {"Authorization": f"Bearer {TOKENS['operator']}"}
    async with stub_issuer() as signer, odd_issuer() as issuer, recording() as server:

        def issue() -> dict[str, str]:
            ends = int(time.time()) + _VALID
            token = signer.token(sub="sidecar", roles=["registrar"], exp=ends)
            return {"access_token": token, "token_type": "Bearer"}

        issuer.answers["client_credentials"] = [(200, issue)]
        trusted = {"issuer": signer.url, "audience": AUDIENCE, "skew": 0}
        what = ("--url", f"http://127.0.0.1:{server.port}/mcp", "--id", "a", "--name", "shop")
        file = tmp_path / "token"
        async with (
            guarded(tmp_path, {"issuers": [trusted]}) as ask,
            rewritten(file, signer),
            running(
                tmp_path,
                *("sidecar", "--store", ask.url, *what, "--ttl", "2", "--drain", "1"),
                MCP_DISCOVERY_STORE_OAUTH_ISSUER=issuer.url,
                MCP_DISCOVERY_STORE_OAUTH_CLIENT_ID="sidecar",
                MCP_DISCOVERY_STORE_OAUTH_CLIENT_SECRET="geheim",
            ) as sidecar,
            running(
                tmp_path,
                *("watch", "--json", "--facade", ask.url, "--facade-token-file", str(file)),
            ) as watch,
        ):
            both = sidecar, watch
            await until_true(lambda: len(issuer.forms) >= _TOKENS, "some tokens", *both)
            reply = await ask("GET", "/servers/a", headers=own)
            assert reply.json["status"] == "healthy"
            asked = len(issuer.forms)
            sidecar.send(signal.SIGHUP)
            began = time.monotonic()
            await until_true(lambda: len(issuer.forms) > asked, "a token after SIGHUP", *both)
            assert time.monotonic() - began < _VALID / 2
            assert await sidecar.stop() == 0
            await until_true(lambda: '"server":null' in watch.log, "its end being seen", *both)
        assert sidecar.log.count(" registered a ") == 1, sidecar.log
        text = sidecar.log + watch.log
    seen = [json.loads(line) for line in watch.log.splitlines()]  # there is no word of trouble
    statuses = [each["server"] and each["server"]["status"] for each in seen]
    assert statuses == ["healthy", "draining", None]
    assert issuer.forms[0]["resource"] == ask.url
    assert "geheim" not in text
    assert "eyJ" not in text
    assert "trying on" not in sidecar.log


async def test_a_right_that_is_missing_is_told_in_the_facades_words(tmp_path: Path) -> None:
    async with recording() as server, guarded(tmp_path) as ask:
        what = ("--url", f"http://127.0.0.1:{server.port}/mcp", "--id", "a", "--name", "shop")
        async with running(
            tmp_path,
            *("sidecar", "--store", ask.url, *what),
            MCP_DISCOVERY_STORE_TOKEN=TOKENS["reader"],
        ) as sidecar:
            says = "reader (roles: reader) has no right to register; ask for a role that has"
            await until_true(lambda: says in sidecar.log, says, sidecar)
            assert TOKENS["reader"] not in sidecar.log
