"""Capability documents by their digest: cached, and over HTTP."""
