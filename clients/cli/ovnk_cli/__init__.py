"""The command ``ovnk``: works offline on files, and online on a northbound database."""
