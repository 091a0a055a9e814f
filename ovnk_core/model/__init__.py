"""What the user says: one frozen struct per kind, validated before it is made (``ingest``)."""
