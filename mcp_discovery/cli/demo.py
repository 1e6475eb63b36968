"""``mcp-discovery demo``: shows a person, on this machine, what the project does.

It starts real processes, kills one, and starts that again.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import typer

from mcp_discovery.errors import DiscoveryError, StoreUnavailableError

Entry = Mapping[str, Any]

#: Seconds; the sidecars probe every third of it, so a failure shows within a second.
_TTL = 3.0


class DemoError(DiscoveryError):
    """A step of the demo failed or did not end in time; the message says which."""


def demo(
    once: bool = typer.Option(
        False, "--once", help="End after the show instead of leaving it all running."
    ),
    port: int = typer.Option(
        4000,
        envvar="MCP_DISCOVERY_PORT",
        min=1,
        max=65535,
        help="The facade's port; when it is in use, a free one is taken.",
    ),
) -> None:
    """Start a facade, two MCP servers and their sidecars, and show what happens.

    The list by tag, a tool called through what was discovered, a server killed and seen as down,
    started again and seen as healthy. Everything runs on 127.0.0.1 and ends with the demo.
    """
    from mcp_discovery.extras import require_extra

    require_extra("client", "the demo")

    try:
        raise typer.Exit(asyncio.run(_run(port, once=once)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("\nEnded.")
        raise typer.Exit(0) from None


async def _run(port: int, *, once: bool) -> int:
    """Runs the demo; returns its exit code. Whatever it starts ends with it."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-discovery-")))
        demo = _Demo(folder, _free_port(port))
        stack.push_async_callback(demo.stop_all)
        try:
            await demo.run()
            if not once:
                typer.echo(f"Open {demo.url}/ in a browser. Or try, in another terminal:")
                typer.echo(f"  curl '{demo.url}/servers?tags=products'")
                typer.echo(f"  mcp-discovery servers --facade {demo.url} --status all")
                typer.echo(f"  mcp-discovery watch --facade {demo.url}")
                typer.echo("Ctrl-C ends everything.")
                await asyncio.Event().wait()
        except DiscoveryError as error:
            typer.echo(f"mcp-discovery: the demo failed: {error}", err=True)
            typer.echo(demo.log_tails(), err=True)
            return 1
    typer.echo("Everything is stopped.")
    return 0


class _Demo:
    """The processes of one demo, and the client of its facade."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        # Imported here: the help of every command imports this module.
        from mcp_discovery.adapters.remote.api import FacadeApi
        from mcp_discovery.adapters.store import StoreOptions

        self._api = FacadeApi(self.url, StoreOptions())

    async def run(self) -> None:
        """Runs all steps."""
        _step("A facade with the embedded store")
        command = ("-m", "mcp_discovery.cli", "facade", "--port", str(self._port))
        await self._start("facade", *command, "--gateway", "--mcp-call-tool")
        await self._until("the facade is ready", self._ready)
        typer.echo(f"The facade listens on {self.url}")

        _step("Two MCP servers, and a sidecar beside each")
        catalog, analytics = _free_port(), _free_port()
        for name, script, at, tags in (
            ("product-catalog", "product_catalog.py", catalog, ("products", "inventory")),
            ("analytics", "analytics.py", analytics, ("analytics", "reports")),
        ):
            await self._start_server(name, script, at)
            await self._start_sidecar(name, at, tags)
        await self._until("both are healthy", lambda: self._statuses({"healthy": 2}))
        await self._print("/servers")

        _step("The list by tag: GET /servers?tags=products")
        found = await self._print("/servers?tags=products")
        if [entry["name"] for entry in found] != ["product-catalog"]:
            raise DemoError(f"the tag 'products' found {[entry['name'] for entry in found]}")

        _step("A tool called through what was discovered")
        await self._call_tool(found[0])

        _step("The product catalog is killed")
        killed = time.monotonic()
        await self._stop("product-catalog", kill=True)
        await self._until("it is down", lambda: self._is("product-catalog", "down"))
        typer.echo(f"Seen as down after {time.monotonic() - killed:.1f} s:")
        await self._print("/servers?status=all")
        if await self._list("/servers?tags=products"):
            raise DemoError("a server that is down is still offered")

        _step("The product catalog is started again")
        await self._start_server("product-catalog", "product_catalog.py", catalog)
        started = time.monotonic()
        await self._until("it is healthy again", lambda: self._is("product-catalog", "healthy"))
        typer.echo(f"Seen as healthy {time.monotonic() - started:.1f} s after it was started:")
        await self._print("/servers?status=all")
        typer.echo("")

    async def stop_all(self) -> None:
        """Stops everything: sidecars first, so that the servers are seen to leave."""
        for name in ("sidecar", "", "facade"):
            leaving = [each for each in self._processes if name in each]
            await asyncio.gather(*(self._stop(each) for each in leaving))
        await self._api.close()

    def log_tails(self) -> str:
        """The ends of the logs, for when something went wrong."""
        return "\n".join(
            f"--- {log.stem}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            for log in sorted(self._folder.glob("*.log"))
        )

    async def _start_server(self, name: str, script: str, port: int) -> None:
        await self._start(name, str(_examples() / script), "--port", str(port))

    async def _start_sidecar(self, name: str, port: int, tags: tuple[str, ...]) -> None:
        options = [part for tag in tags for part in ("--tag", tag)]
        await self._start(
            f"{name}-sidecar",
            *("-m", "mcp_discovery.cli", "sidecar", "--store", self.url, "--name", name),
            *("--url", f"http://127.0.0.1:{port}/mcp", "--ttl", f"{_TTL:g}", "--drain", "0"),
            *options,
        )

    async def _start(self, name: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends them in order
            )

    async def _stop(self, name: str, *, kill: bool = False) -> None:
        process = self._processes.pop(name)
        if process.returncode is None:
            (process.kill if kill else process.terminate)()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _until(self, what: str, happened: Callable[[], Any]) -> None:
        """Waits until ``happened`` says so; raises :class:`DemoError` when it does not."""
        deadline = time.monotonic() + 30
        while not await happened():
            ended = [name for name, each in self._processes.items() if each.returncode is not None]
            if ended:
                raise DemoError(f"{', '.join(ended)} ended while waiting until {what}")
            if time.monotonic() > deadline:
                raise DemoError(f"it took more than 30 s until {what}")
            await asyncio.sleep(0.05)

    async def _ready(self) -> bool:
        try:
            await self._api.call("GET", "/ready")
        except StoreUnavailableError:
            return False
        return True

    async def _statuses(self, wanted: Mapping[str, int]) -> bool:
        summary = (await self._api.call("GET", "/status")).json()["summary"]
        return all(summary[status] == count for status, count in wanted.items())

    async def _is(self, name: str, status: str) -> bool:
        entries = await self._list("/servers?status=all")
        return any(entry["name"] == name and entry["status"] == status for entry in entries)

    async def _list(self, path: str) -> list[Entry]:
        entries: list[Entry] = (await self._api.call("GET", path)).json()["servers"]
        return entries

    async def _print(self, path: str) -> list[Entry]:
        from mcp_discovery.cli.tables import print_entries

        entries = await self._list(path)
        print_entries(entries)
        return entries

    async def _call_tool(self, entry: Entry) -> None:
        from mcp import Client

        async with Client(entry["url"]) as client:
            result = await client.call_tool("search_products", {"query": "lamp"})
        typer.echo(f"search_products(query='lamp') at {entry['url']}")
        if result.is_error or not result.content:
            raise DemoError(f"the tool answered with an error: {result.content}")
        for part in result.content[:3]:
            typer.echo("  " + " ".join(str(getattr(part, "text", part)).split())[:200])


def _examples() -> Path:
    """The example servers: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / "product_catalog.py").exists():
            return folder
    raise DemoError("the example servers are not installed; run the demo from a checkout")


def _free_port(wanted: int = 0) -> int:
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as probe:
                found: int = probe.getsockname()[1]
                return found
        except OSError:
            typer.echo(f"Port {port} is in use; taking a free one.")
    raise DemoError("there is no free port on 127.0.0.1")


def _step(text: str) -> None:
    typer.secho(f"\n▶ {text}", bold=True)
