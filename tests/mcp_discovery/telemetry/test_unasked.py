"""What nobody asked for is not imported; what cannot be had is said in one sentence."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.programs import ENVIRONMENT, ROOT, command

_TRIED = """
import sys
from mcp_discovery.facade.app import create_app
from mcp_discovery.adapters.embedded import EmbeddedStore
import mcp_discovery.cli.main, mcp_discovery.cli.facade, mcp_discovery.cli.sidecar
import mcp_discovery.sidecar.run, mcp_discovery.sidecar.bridge.serving
import mcp_discovery.telemetry.setup
import asyncio
async def main():
    async with mcp_discovery.telemetry.setup.telemetry("nothing"), EmbeddedStore() as store:
        create_app(store)
asyncio.run(main())
print([each for each in sys.modules if each.split(".")[0] in ("opentelemetry", "google")])
"""


def _python(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {f"OTEL_{each}_EXPORTER": "none" for each in ("TRACES", "METRICS", "LOGS")},
    ],
)
def test_nothing_is_imported_unasked(environment: dict[str, str]) -> None:
    ended = _python(_TRIED, **environment)
    assert ended.stdout == "[]\n", ended


_WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name == "opentelemetry" or name.startswith("opentelemetry."):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from mcp_discovery.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("facade", "--port", "0", "--otlp-endpoint", "http://127.0.0.1:9"),
        ("sidecar", "--store", "consul://127.0.0.1:9", "--otlp-endpoint", "http://127.0.0.1:9"),
        ("servers", "--facade", "http://127.0.0.1:9"),
    ],
)
def test_without_the_extra_one_sentence_says_how_to_get_it(arguments: tuple[str, ...]) -> None:
    asked = {} if "--otlp-endpoint" in arguments else {"OTEL_TRACES_EXPORTER": "otlp"}
    words = ", ".join(map(repr, ("mcp-discovery", *arguments)))
    ended = _python(f"import sys; sys.argv = [{words}]{_WITHOUT}", **asked)
    assert ended.returncode == 2, ended
    [line] = ended.stderr.splitlines()
    assert "run: pip install 'mcp-discovery[otel]'" in line


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke",
            },
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ),
    ],
)
async def test_what_cannot_be_used_is_named(environment: dict[str, str], named: str) -> None:
    ended = await command("servers", "--facade", "http://127.0.0.1:9", timeout=60, **environment)
    assert ended.code == 2, ended
    assert named in ended.err
    assert "Traceback" not in ended.err


async def test_a_collector_that_hangs_holds_no_command_up() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    listening = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        hanging = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
        }
        ended = await command("servers", "--facade", "http://127.0.0.1:9", timeout=60, **hanging)
    assert ended.code == 3, ended
    assert "never retrieved" not in ended.err


async def test_a_collector_that_is_away_changes_no_answer() -> None:
    gone = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    plain = await command("servers", "--facade", "http://127.0.0.1:9", timeout=60)
    ended = await command("servers", "--facade", "http://127.0.0.1:9", timeout=60, **gone)
    assert ended.code == plain.code
    assert ended.err.splitlines()[-1] == plain.err.splitlines()[-1]
