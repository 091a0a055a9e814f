"""Where rows go: one port (``port``), three drivers (``memory``, ``native``, ``ovsdbapp``)."""
