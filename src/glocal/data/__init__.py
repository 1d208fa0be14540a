"""Paired data sets: layouts on disk, pairing of files, synthetic degradation.

Imports `runs`, `images` and `errors`.
"""
