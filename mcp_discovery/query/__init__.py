"""Filters, queries, version ranges and text search: what servers and tools are selected by."""
