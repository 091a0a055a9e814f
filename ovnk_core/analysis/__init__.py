"""Whole-cluster questions."""
