"""What breaks clusters, floods stores or fills memory: not all of it at once.

The tests of a store's cluster run one after the other, and so do all others here; these groups
wait more than they work, so they may run beside each other.
"""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_CLUSTERS = ("test_apart.py", "test_each.py", "test_mixed.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts every test here into its group."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    if item.path.name not in _CLUSTERS:
        return "faults"
    return "faults of consul" if "consul" in item.name else "faults of etcd"
