"""Several processes that serve one port."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.facade.access.browser import CookieClient
from tests.facade.access.tokens import TOKENS, write_auth_file
from tests.programs import Running, command, running
from tests.stores import ports
from tests.stores.consul import ConsulServer
from tests.stores.waiting import until


async def epochs(url: str) -> set[str]:
    """The epochs that twenty new connections see, each a worker's own."""
    found = set()
    for _ in range(20):
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{url}/ready") as response:
                if response.status == 200:
                    found.add(response.headers["X-Discovery-Revision"].partition(":")[0])
        except aiohttp.ClientError:
            continue
    return found


def workers(process: Running) -> list[psutil.Process]:
    """The workers of a facade, those that were replaced left out."""
    return [each for each in psutil.Process(process.pid).children() if each.is_running()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_they_share_a_port_and_end_together(
    consul_server: ConsulServer, namespace: str, tmp_path: Path, number: signal.Signals
) -> None:
    port = ports.draw().number
    store = f"{consul_server.store_url}/{namespace}"
    given = ("facade", "--store", store, "--port", str(port), "--workers", "2")
    async with running(tmp_path, *given) as process:
        url = f"http://127.0.0.1:{port}"

        async def both() -> bool:
            return len(await epochs(url)) == 2

        await until(both, timeout=30, what=f"both workers answering: {process.log}")
        first = workers(process)
        # Who else wants the port is told, although the workers share it.
        other = await command(*given)
        assert other.code == 6 and "is in use" in other.err
        # One that is killed is replaced.
        os.kill(first[0].pid, signal.SIGKILL)

        async def replaced() -> bool:
            now = workers(process)
            return len(now) == 2 and first[0] not in now and len(await epochs(url)) == 2

        await until(replaced, timeout=30, what=f"a new worker: {process.log}")
        assert "a worker was killed by signal 9; starting another" in process.log
        first = workers(process)
        os.kill(first[0].pid, signal.SIGTERM)
        await until(replaced, timeout=30, what=f"another worker: {process.log}")
        assert "a worker was stopped; starting another" in process.log
        last = workers(process)
        assert await process.stop(number) == 0
        assert not any(each.is_running() for each in last)


async def test_they_end_when_their_parent_is_killed(
    consul_server: ConsulServer, namespace: str, tmp_path: Path
) -> None:
    port = ports.draw().number
    store = f"{consul_server.store_url}/{namespace}"
    given = ("facade", "--store", store, "--port", str(port), "--workers", "2")
    async with running(tmp_path, *given) as process:

        async def both() -> bool:
            return len(await epochs(f"http://127.0.0.1:{port}")) == 2

        await until(both, timeout=30, what=f"both workers answering: {process.log}")
        left = workers(process)
        await process.stop(signal.SIGKILL)

        async def gone() -> bool:
            return not any(each.is_running() for each in left)

        await until(gone, timeout=20, what="the workers ending")


async def test_a_browsers_session_counts_at_each(
    consul_server: ConsulServer, namespace: str, tmp_path: Path
) -> None:
    port = ports.draw().number
    url = f"http://127.0.0.1:{port}"
    store = f"{consul_server.store_url}/{namespace}"
    auth = write_auth_file(tmp_path / "auth.yaml")
    given = ("facade", "--store", store, "--port", str(port), "--workers", "2", "--auth", auth)
    async with running(tmp_path, *given, "--audit-store", "none") as process:
        jar = aiohttp.CookieJar(unsafe=True)
        connector = aiohttp.TCPConnector(force_close=True)

        async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as session:
            browser = CookieClient(url, session)
            await until(lambda: _is_up(browser), timeout=30, what=f"an answer: {process.log}")
            assert (await browser.sign_in(TOKENS["reader"])).status == 303
            found = set()
            for _ in range(30):
                reply = await browser("GET", "/servers")
                assert reply.status == 200
                found.add(reply.headers["X-Discovery-Revision"].partition(":")[0])
            assert len(found) == 2


async def _is_up(browser: CookieClient) -> bool:
    try:
        return (await browser("GET", "/ready")).status == 200
    except aiohttp.ClientError:
        return False


async def test_an_embedded_store_is_of_one_process_alone() -> None:
    ended = await command("facade", "--workers", "2")
    assert ended.code == 2
    assert ended.err.count("\n") == 1 and "--workers 2 needs a store that they share" in ended.err


async def test_what_cannot_be_used_is_told_once() -> None:
    given = ("--store", "etcd+https://127.0.0.1:1", "--store-ca", "/nonexistent", "--port", "0")
    one, two = [await command("facade", *given, "--workers", number) for number in ("1", "2")]
    assert (two.code, two.err) == (one.code, one.err)
    assert two.code == 2 and two.err.count("\n") == 1


async def test_they_may_be_stopped_while_they_start(tmp_path: Path) -> None:
    """A signal may end a worker before it listens to signals: that is no failure."""
    given = ("facade", "--store", "etcd://127.0.0.1:1", "--port", "0", "--workers", "4")
    async with running(tmp_path, *given) as process:

        async def begun() -> bool:
            return len(workers(process)) > 0

        await until(begun, timeout=20, what=f"the first worker: {process.log}")
        assert await process.stop(signal.SIGTERM) == 0


async def test_hanging_up_reads_credential_files_again_in_each(
    consul_server: ConsulServer, namespace: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("00000000-0000-0000-0000-000000000002")  # Consul's own anonymous token
    port = ports.draw().number
    store = f"{consul_server.store_url}/{namespace}"
    given = ("--store", store, "--store-token-file", str(token), "--port", str(port))
    async with running(tmp_path, "facade", *given, "--workers", "2") as process:

        async def both() -> bool:
            return len(await epochs(f"http://127.0.0.1:{port}")) == 2

        await until(both, timeout=30, what=f"both workers answering: {process.log}")
        first = workers(process)
        token.write_text("anonymous")
        process.send(signal.SIGHUP)

        async def rotated() -> bool:
            return process.log.count(f"{token} has changed; it counts from now on") == 2

        await until(rotated, timeout=5, what=f"the token's rotation in both: {process.log}")
        assert workers(process) == first
        assert await process.stop() == 0
