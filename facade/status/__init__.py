"""How the facade and its list are."""
