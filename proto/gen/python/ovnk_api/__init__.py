"""The API of ovnk as Python: generated from proto/ovnk_api, never edited."""
