"""Egress firewalls as a whole: findings, overlaps, the rules behind rows, flows by the million."""
