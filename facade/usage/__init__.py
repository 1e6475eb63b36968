"""How much instances are used, and how their calls end."""
