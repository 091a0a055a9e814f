"""Words of the field as small values: addresses, labels, names, ports."""
