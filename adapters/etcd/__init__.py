"""The etcd store: registrations on etcd's leases, watched through its JSON gateway."""

from mcp_discovery.adapters.etcd.store import EtcdStore

__all__ = ["EtcdStore"]
