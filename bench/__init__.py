"""What the house costs, as counters and ratios first and time second: ``python -m bench.run``."""
