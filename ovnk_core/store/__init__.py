"""What was accepted, kept: an ordered log of changes, its history in memory, and three places to keep it."""
