"""Fuzzing: whatever a parser is given, it answers with a value or with one of our own errors."""
