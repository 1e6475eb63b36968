"""What every test may use: the shared real stores, and a loop without leftovers."""

pytest_plugins = ["tests.stores.fixtures"]
