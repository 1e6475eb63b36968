"""The store over Consul: services and checks hold the health, KV the records and documents."""

from mcp_discovery.adapters.consul.store import ConsulStore

__all__ = ["ConsulStore"]
