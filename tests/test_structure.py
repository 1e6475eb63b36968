"""The structure of the repository that no other tool checks."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: The folders of the product. `mcp_discovery/` reaches the other three through symbolic links too.
PRODUCT = ("mcp_discovery", "adapters", "sidecar", "facade")
#: All that stands at the facade's root; everything else has a folder named by its subject.
FACADE_ROOT = {"__init__", "app", "run", "workers", "state", "options"}
#: Folders of the product that hold no modules of its own.
WITHOUT_TESTS = {"static", "__pycache__"}


def modules(folder: str) -> Iterator[Path]:
    """The modules below a folder, those behind its symbolic links left out."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.resolve().is_relative_to(ROOT / folder):
            yield path


def test_a_class_name_occurs_once() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for folder in PRODUCT:
        for path in modules(folder):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    found[node.name].append(str(path.relative_to(ROOT)))
    repeated = {name: paths for name, paths in sorted(found.items()) if len(paths) > 1}
    assert not repeated, "\n".join(
        f"{name}: {', '.join(paths)}" for name, paths in repeated.items()
    )


def test_the_facades_root_holds_what_starts_it() -> None:
    there = {path.stem for path in (ROOT / "facade").glob("*.py")}
    assert there == FACADE_ROOT


@pytest.mark.parametrize("folder", PRODUCT)
def test_the_tests_mirror_the_folders(folder: str) -> None:
    packages = {path.parent.relative_to(ROOT) for path in modules(folder)}
    missing = [
        str(each)
        for each in sorted(packages)
        if WITHOUT_TESTS.isdisjoint(each.parts) and not (ROOT / "tests" / each).is_dir()
    ]
    assert not missing, f"no folder in tests/ for {', '.join(missing)}"
