"""What happens to this packet, and which line of which object decides.

Two answers that must agree: ``intent`` asks each room what its objects say, ``flows`` executes the logical flows.
"""
