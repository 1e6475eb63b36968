"""What a caller may not see does not exist for it."""
