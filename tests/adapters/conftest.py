"""Every test that starts a store runs over all its releases."""

from tests.stores.fixtures import over_releases as pytest_generate_tests

__all__ = ["pytest_generate_tests"]
