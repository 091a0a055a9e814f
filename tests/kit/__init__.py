"""Builders, daemons and oracles shared by the tests."""
