"""Tokens from an OAuth 2.0 authorization server: for machines, and for people at a shell."""

from mcp_discovery.oauth.client_credentials import ClientCredentials

__all__ = ["ClientCredentials"]
