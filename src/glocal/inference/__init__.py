"""`restore`: one image through one network, whole or in tiles, within a memory limit.

Imports `scanning`, `ops`, `texts` and `errors`; touches no files.
"""
