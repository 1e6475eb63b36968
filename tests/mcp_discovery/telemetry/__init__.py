"""Tests of traces, metrics and logs over OTLP."""
