"""The Dockerfile and its pins, read: exec form, no root, and the very versions that are tested."""

from __future__ import annotations

import re
from importlib.metadata import requires
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.image import dockerfile
from tests.deploy.image.building import DOCKERFILE, ROOT
from tests.deploy.image.dockerfile import Instruction
from tests.deploy.image.wheels import PINS

_IN_EXEC_FORM = ("RUN", "ENTRYPOINT", "CMD")
_AGAIN = "run scripts/image-requirements"


def _pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s\\;]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def _wanted(*names: str) -> set[str]:
    """The names of all that ``names`` want, and what these want, without extras of their own."""
    wanted: set[str] = set()
    ahead = [Requirement(name) for name in names]
    while ahead:
        one = ahead.pop()
        wanted.add(canonicalize_name(one.name))
        for line in requires(one.name) or []:
            each = Requirement(line)
            extras = one.extras or {""}
            applies = each.marker is None or any(
                each.marker.evaluate({"extra": extra}) for extra in extras
            )
            if applies and (canonicalize_name(each.name) not in wanted or each.extras):
                ahead.append(each)
    return wanted


def _dependencies() -> list[str]:
    """What the image installs: `call`, `demo` and `doctor` are commands in it, too."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    held = ("audit", "auth", "client", "doctor", "otel", "postgres", "redis", "semantic")
    return [*project["dependencies"], *chain.from_iterable(extras[each] for each in held)]


def test_every_line_is_in_exec_form() -> None:
    for stage in dockerfile.read(DOCKERFILE).stages:
        for each in stage.instructions:
            if each.name in _IN_EXEC_FORM:
                assert each.exec_form(), each
    _, check = dockerfile.read(DOCKERFILE).stages[-1].last("HEALTHCHECK").options()
    assert check == 'CMD ["mcp-discovery", "health"]'


def test_it_runs_as_a_number_that_is_not_root() -> None:
    user = dockerfile.read(DOCKERFILE).stages[-1].last("USER").text
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_it_is_built_as_root_whoever_the_bases_user_is() -> None:
    for stage in dockerfile.read(DOCKERFILE).stages:
        assert stage.instructions[0] == Instruction("USER", "0:0")


def test_every_base_is_an_option() -> None:
    read = dockerfile.read(DOCKERFILE)
    assert {stage.base for stage in read.stages} == {"${PYTHON_IMAGE}"}
    assert read.arguments["PYTHON_IMAGE"]


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_what_is_installed_is_what_is_tested(path: Path) -> None:
    tested, pinned = _pins(ROOT / "requirements.txt"), _pins(path)
    assert pinned == {name: tested.get(name) for name in pinned}, _AGAIN
    for block in re.split(r"^(?=[a-z])", path.read_text(), flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert "://" not in path.read_text(), "an address of a registry"


def test_the_pins_are_all_that_is_needed_and_no_more() -> None:
    assert set(_pins(PINS[0])) == _wanted(*_dependencies()), _AGAIN
    assert set(_pins(PINS[1])) == _wanted("hatchling"), _AGAIN
