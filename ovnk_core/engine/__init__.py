"""Incremental tables and rules; knows nothing of networks.

The law: every derived table equals what a fresh engine would hold for the same inputs. Three kinds of node keep it:
tables (``table``), pure rules with recorded reads (``rule``) and a handful of relations (``relation``); ``graph``
orders them and ``engine`` runs them.
"""
