"""The service: gRPC in front of a keeper. Converts, checks who may, calls the core, converts back."""
