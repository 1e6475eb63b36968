"""The connections API: the one list of servers, in the words of a connection registry."""
