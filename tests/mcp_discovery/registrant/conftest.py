"""Fixtures of the registrant's tests: those of the sidecar, which runs one registrant."""

from tests.sidecar.conftest import everything_logged, seen, server, store

__all__ = ["everything_logged", "seen", "server", "store"]
