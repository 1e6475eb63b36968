"""Agentic Resource Discovery (ARD v0.91): this facade as a publisher and as a registry."""
