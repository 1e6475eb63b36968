"""What the package exports is a promise: a name that comes or goes is seen here first."""

import mcp_discovery
from mcp_discovery import errors


def test_the_package_exports_these_names() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DiscoveryError)
    }
    assert set(mcp_discovery.__all__) == raised | {
        *("Change", "Credentials", "Discovery", "SyncDiscovery", "Tool")
    }
    assert len(raised) == 31
    for name in mcp_discovery.__all__:
        # A change of a watch is ServerChange inside, beside the Change of a store.
        own = {"Change": "ServerChange"}.get(name, name)
        assert getattr(mcp_discovery, name).__name__ == own
    for name in raised:
        assert getattr(mcp_discovery, name) is getattr(errors, name)
