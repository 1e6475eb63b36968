"""The store over Consul: services and checks say who is alive, KV says what they are."""

from mcp_discovery.adapters.consul.store import ConsulStore

__all__ = ["ConsulStore"]
