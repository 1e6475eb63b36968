"""The jobs of deploy/nomad, as Nomad's own parser reads them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.deploy.tools import program
from tests.programs import ROOT

FOLDER = ROOT / "deploy/nomad"
SERVER, FACADE = FOLDER / "mcp-server.nomad.hcl", FOLDER / "facade.nomad.hcl"


def job(path: Path, **variables: str) -> dict[str, Any]:
    """The job as Nomad reads it; raises ValueError with what it says is wrong."""
    given = [f"-var={name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        [program("deploy-parser"), "nomad", str(path), *given], capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(done.stderr)
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def tasks(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its tasks by name."""
    (group,) = job["TaskGroups"]
    return {task["Name"]: task for task in group["Tasks"]}
