"""Desired rows against actual rows: which operations make them equal. Pure; sends nothing."""
