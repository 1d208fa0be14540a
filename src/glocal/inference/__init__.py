"""Run a network on an image, whole or in tiles, within a memory limit.

`measure` runs strips of the image, `plan` computes the tiles from that, `run` runs the tiles.
Imports `scanning`, `ops`, `texts` and `errors`; reads and writes no files.
"""
