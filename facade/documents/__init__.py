"""Capability documents: on their way into the store and out of it, and over HTTP."""
