"""What changes the list: posted entries, registrations held for others, and their hand-over."""
