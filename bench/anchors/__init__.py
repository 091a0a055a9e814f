"""What scenarios are measured against: other people's programs, driven so that both sides do the same work."""
