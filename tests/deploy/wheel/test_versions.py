"""One version: whatever names it names that of pyproject.toml."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from tests.deploy.wheel.environment import ROOT

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
#: Places below these that name an image of this project.
_FOLDERS = ("deploy", "docs")


def test_the_chart_is_of_the_version() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/mcp-discovery/Chart.yaml").read_text())
    assert chart["appVersion"] == VERSION
    # Helm wants semantic versioning, which spells a development version otherwise.
    assert chart["version"] == re.sub(r"\.dev(\d+)$", r"-dev.\1", VERSION)


@pytest.mark.parametrize("folder", _FOLDERS)
def test_every_image_that_is_named_is_of_the_version(folder: str) -> None:
    named = 0
    for path in (ROOT / folder).rglob("*"):
        if not path.is_file() or path.suffix in (".whl", ".png"):
            continue
        for tag in re.findall(r"\bmcp-discovery:(\d+\.[\w.-]*\w)", path.read_text()):
            assert tag == VERSION, path
            named += 1
    assert named


def test_the_image_is_labelled_with_it() -> None:
    assert f"ARG VERSION={VERSION}\n" in (ROOT / "deploy/docker/Dockerfile").read_text()


def test_the_licence_is_that_of_the_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
