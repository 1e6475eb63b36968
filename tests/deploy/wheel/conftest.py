"""The wheel, built once, and an environment that holds the core alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.wheel.environment import PINS, Environment, built_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return built_wheel(tmp_path_factory.getbasetemp() / "wheel")


@pytest.fixture(scope="session")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and what it requires, without any extra."""
    made = Environment.made(tmp_path_factory.getbasetemp() / "core")
    made.install("--constraint", str(PINS), str(wheel))
    return made
