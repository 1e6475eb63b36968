"""What became of each instance, and of what servers offered."""
