"""What the pages name is there: files and folders of the repository, and links between pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "adapters/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
TOP = "adapters|facade|sidecar|mcp_discovery|tests|deploy|docs|scripts|benchmarks|examples"
#: A path in code: its first folder is one of the repository's.
PATH = re.compile(rf"`((?:{TOP})/[\w./@-]*)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_and_link_on_a_page_leads_somewhere(page: str) -> None:
    file = ROOT / page
    text = file.read_text()
    paths = {path for path in PATH.findall(text) if not (ROOT / path).exists()}
    links = {link for link in LINK.findall(text) if not (file.parent / link).exists()}
    assert not paths | links
