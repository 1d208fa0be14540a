"""Restore image files and folders.

Reading, computing and writing overlap; interrupted runs resume; large files are streamed.

Imports `inference` and the rooms below it, and `images`.
"""
