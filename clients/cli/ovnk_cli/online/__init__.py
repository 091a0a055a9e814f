"""What the command does on a server: everything in here may load gRPC, nothing outside of it and ``place`` does."""
