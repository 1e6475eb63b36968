"""Tests of the vocabulary and the probe."""
