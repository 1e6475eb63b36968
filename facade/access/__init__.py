"""Who asks, what they may see, register and call, how much of it, and what is recorded of it."""
