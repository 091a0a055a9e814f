"""Fast data structures on ints and arrays; knows nothing of networks."""
