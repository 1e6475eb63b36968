"""The image, built once in a test process for whoever runs it."""

from __future__ import annotations

import functools
from pathlib import Path

from tests.deploy.image import base, building
from tests.deploy.image.building import Image
from tests.deploy.image.wheels import wheels

REVISION = "abc123"


@functools.cache
def built(folder: Path) -> Image:
    """What deploy/docker/Dockerfile makes of this repository in ``folder``, without a network.

    Its base is the less friendly one; a daemon builds over one that is like the official images.
    """
    (folder / "base").mkdir(parents=True)
    base.furnish(folder / "base", distribution=True)
    building.context(folder / "context", wheels())
    return building.build(
        folder / "base", folder / "context", folder, PIP_NO_INDEX="1", REVISION=REVISION
    )
