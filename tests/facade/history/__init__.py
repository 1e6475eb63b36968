"""What became of instances, and what of that is told."""
