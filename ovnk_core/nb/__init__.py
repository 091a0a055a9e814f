"""What OVN's northbound schema says: typed rows, the match language, and how both become database values."""
