"""What happened: events of changes, refusals and calls, chained by hash, durable, and queried."""
