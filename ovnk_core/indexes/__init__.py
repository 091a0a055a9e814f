"""Maintained relations over the model, shared by every room."""
