"""The image of deploy/docker, which these tests run."""

from __future__ import annotations

import pytest

from tests.deploy.image.building import Image
from tests.deploy.image.built import built


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What the Dockerfile makes of this repository."""
    return built(tmp_path_factory.getbasetemp() / "image")
