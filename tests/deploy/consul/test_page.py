"""docs/consul.md: each `consul` command in it is one that this Consul has, with those options."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.deploy.consul.agents import CONSUL, DEPLOY, consul_program

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "consul.md").read_text()
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Each `consul` command of the page and of the files' own comments."""
    lines = [
        line.removeprefix("$ ") for block in _BLOCK.findall(PAGE) for line in block.split("\n")
    ]
    for path in sorted([*CONSUL.rglob("*.hcl"), *CONSUL.rglob("*.sh")]):
        head = path.read_text().replace("\\\n#", "").split("\n\n")[0]
        lines += [line.lstrip("# ").partition("  # ")[0] for line in head.split("\n")]
    return [line.strip() for line in lines if line.lstrip().startswith("consul ")]


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_this_consul_has_the_command_and_its_options(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    names: list[str] = []
    for word in words:
        if not re.fullmatch(r"[a-z-]+", word) or word.startswith("-") or len(names) == 3:
            break
        names.append(word)
    for depth in range(len(names), 0, -1):
        asked = [consul_program(), *names[:depth], "-h"]
        help = subprocess.run(asked, capture_output=True, text=True, timeout=20)
        said = help.stdout + help.stderr
        if f"consul {' '.join(names[:depth])}" in said:
            break
    else:
        raise AssertionError(f"{command}: no such command")
    for option in (word.partition("=")[0] for word in words if word.startswith("-")):
        assert f"{option}" in said, f"{command}: no option {option}"


@pytest.mark.parametrize("page", ["consul.md", "dns.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (DOCS / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (DOCS / target).exists(), target
    for file, anchor in re.findall(r"\]\(([\w.]+)#([\w-]+)\)", text):
        titles = re.findall(r"^#+ (.*)$", (DOCS / file).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
        assert anchor in anchors, anchor


@pytest.mark.parametrize(
    "path", sorted(p for area in ("consul", "dns", "haproxy") for p in (DEPLOY / area).rglob("*.*"))
)
def test_each_file_says_how_it_is_used(path: Path) -> None:
    if path.suffix == ".json":
        path = path.with_suffix(".md")
    head = path.read_text().split("\n\n", 3)
    assert "Use" in "\n".join(head[:3]), path
