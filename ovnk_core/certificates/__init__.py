"""Certificates of nodes for IPsec (15.4.3): an authority, what it signs, when both are renewed, and how they are kept.

Nothing here looks at a clock: every function is told the time. Times are whole seconds, UTC.
"""
