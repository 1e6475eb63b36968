"""Sorts the tests by what they use, so that nobody has to: ``slow`` and ``drawn``.

A test is ``slow`` where it, one of its fixtures, or a function of the tests that these call starts
a program (a store, an MCP server, a command), where it draws more examples than hypothesis does by
itself, or where it is marked so. ``make check`` leaves slow tests out.

A test is ``drawn`` where its input is, by hypothesis or from `tests.seeds`. ``make soak`` runs
those with another seed each time.

Tests that share a fixture of a module or a folder are a group, which one worker runs: each worker
would make that fixture for itself.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

#: Modules whose functions and classes start programs.
STARTERS = (
    "tests.browser",
    "testcontainers",
    "tests.deploy.image",
    "tests.programs",
    "tests.servers.process",
    "tests.stores.cluster",
    "tests.stores.consul",
    "tests.stores.container",
    "tests.stores.etcd",
    "tests.stores.process",
    "tests.stores.server",
)
#: The functions that start a program without any of these modules; a fixture that is asked for by a
#: name that is made at run time is mostly one of a store.
STARTS = frozenset(
    {
        "Popen",
        "check_output",
        "create_subprocess_exec",
        "create_subprocess_shell",
        "getfixturevalue",
    }
)
#: As many examples as hypothesis draws by itself: a fast test draws no more.
FEW_EXAMPLES = 100


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, which writes groups into ids
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with what it is, and with its group."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if item.get_closest_marker("xdist_group") is None and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))
        used = _used(item)
        hypothesis = getattr(item.obj, "hypothesis", None)
        for value in item.callspec.params.values() if hasattr(item, "callspec") else ():
            used.follow(value)
        many = hypothesis and _examples(item.obj) > FEW_EXAMPLES
        if many or used.starts or any(each.startswith(STARTERS) for each in used.modules):
            item.add_marker(pytest.mark.slow)
        if hypothesis or "tests.seeds" in used.modules:
            item.add_marker(pytest.mark.drawn)


def starts_store(definition: pytest.Function) -> bool:
    """Whether a test starts a store's server, itself or by its fixtures."""
    return not _used(definition).modules.isdisjoint(("tests.stores.consul", "tests.stores.etcd"))


def _group(item: pytest.Function) -> str | None:
    """Where the widest fixture stands that it shares with some tests and not with all; the stores'
    release besides, so that no worker changes the release for a test."""
    shared = [
        each.baseid
        for definitions in item._fixtureinfo.name2fixturedefs.values()
        for each in definitions
        if each.scope in ("module", "package") and each.baseid.startswith("tests/")
    ]
    if not shared:
        return None
    callspec = getattr(item, "callspec", None)
    release = callspec.params.get("release", "") if callspec else ""
    return f"{min(shared, key=len)} {release}".strip()


def _used(item: pytest.Function) -> _Used:
    used = _Used()
    hypothesis = getattr(item.obj, "hypothesis", None)
    used.follow(hypothesis.inner_test if hypothesis else item.obj)
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        for each in definitions:
            used.follow(each.func)
    return used


def _examples(test: Any) -> int:
    return int(test._hypothesis_internal_use_settings.max_examples)


class _Used:
    """What functions and classes use, directly and through those of the tests."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.starts = False
        self._seen: set[int] = set()

    def follow(self, value: Any) -> None:
        """Takes in ``value``, and what it uses where it is a function or a class of the tests."""
        value = getattr(value, "__wrapped__", getattr(value, "__func__", value))
        module = getattr(value, "__module__", None)
        if not isinstance(module, str) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self.modules.add(module)
        if not module.startswith("tests."):
            return
        if isinstance(value, type):
            for part in vars(value).values():
                self.follow(part)
        elif isinstance(value, types.FunctionType):
            for code in _codes(value.__code__):
                self._follow_names(code, value.__globals__)

    def _follow_names(self, code: types.CodeType, known: dict[str, Any]) -> None:
        names = code.co_names
        self.starts |= not STARTS.isdisjoint(names)
        for found in (known[name] for name in names if name in known):
            if not isinstance(found, types.ModuleType):
                self.follow(found)
            elif found.__name__ == "subprocess":
                self.starts = True
            elif found.__name__.startswith("tests."):
                for name in names:
                    self.follow(getattr(found, name, None))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """``code``, and that of the functions inside of it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes(each)
