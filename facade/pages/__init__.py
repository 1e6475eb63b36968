"""The facade for people: pages that are made on the server and kept alive by small ES modules."""
