"""Every exception of the product stands in one tree, and its name says that it is an error."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import mcp_discovery
from mcp_discovery import errors
from mcp_discovery.errors import DiscoveryError


def _modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(mcp_discovery.__path__, "mcp_discovery."):
        if not found.name.endswith("__main__"):
            yield found.name


def _exceptions() -> dict[str, type[BaseException]]:
    found = {}
    for name in _modules():
        for value in vars(importlib.import_module(name)).values():
            if not isinstance(value, type) or not issubclass(value, BaseException):
                continue
            if value.__module__.startswith("mcp_discovery."):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def test_every_exception_is_in_the_one_tree_and_says_that_it_is_an_error() -> None:
    found = _exceptions()
    assert len(found) > 40
    assert not [name for name, each in found.items() if not issubclass(each, DiscoveryError)]
    assert not [name for name in found if not name.endswith("Error")]


def test_the_docstring_draws_every_error_of_the_module() -> None:
    own = {each.__name__ for each in _exceptions().values() if each.__module__ == errors.__name__}
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error")}
    assert own <= drawn
    assert drawn <= {each.__name__ for each in _exceptions().values()}


def test_a_name_of_0_1_0_still_leads_to_its_error() -> None:
    with pytest.deprecated_call(match="RegistrationLost is now RegistrationLostError"):
        from mcp_discovery.errors import RegistrationLost  # type: ignore[attr-defined]
    assert RegistrationLost is errors.RegistrationLostError
    with pytest.raises(AttributeError):
        getattr(errors, "Never" + "Was")
