"""The facade, its store and its registrants as a whole: who is there, and how each is."""
