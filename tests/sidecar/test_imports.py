"""A sidecar runs beside every MCP server, so it loads nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys


def test_a_sidecar_loads_no_facade_no_sdk_and_no_command_line() -> None:
    script = "import sidecar.run, sys; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"facade", "mcp", "rich", "typer", "httpx2", "uvicorn"} & set(loaded)
