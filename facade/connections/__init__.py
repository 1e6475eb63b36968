"""The connections API: the list of servers with the vocabulary of a connection registry."""
