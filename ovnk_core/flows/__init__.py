"""Logical flows derived from the desired northbound rows: what northd will make of them.

Materialised when asked for, incremental afterwards. For the stages named in ``flow.STAGES`` the table is complete:
a test compares it with the southbound ``Logical_Flow`` that northd writes for the same rows.
"""
