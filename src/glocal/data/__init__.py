"""Paired data sets: published layouts, pairing of files, synthetic degradations.

Imports `runs`, `images` and `errors`.
"""
