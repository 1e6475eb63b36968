"""The list of servers: queries, pages, long polls, events, search."""
