"""Tools across servers."""
