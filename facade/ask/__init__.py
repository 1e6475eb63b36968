"""Questions that a model answers with the tools that their caller may call."""
