"""Wants -> decisions: who gets which subnet, id and address. Pure proposals, honouring what is recorded."""
