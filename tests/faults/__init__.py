"""Breaks real clusters on purpose, records what every side saw, and judges the four promises."""
