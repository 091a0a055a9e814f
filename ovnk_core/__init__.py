"""ovnk: an OVN northbound control plane as a library. Public names live in the modules README.md names."""
