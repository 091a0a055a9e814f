"""From manifests to the model: reading, validating, naming what is wrong. The door is ``ingest.load``.

Nothing here knows the engine, the northbound or time. ``document`` finds and reads files, ``yaml_reader`` and
``json_reader`` turn bytes into plain values with positions, ``parse`` and its ``parse_*`` files turn one plain value
into one model struct, and ``load`` collects the results and settles duplicates.
"""
