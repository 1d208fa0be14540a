"""Restore image files and folders: overlapping stages, resumable runs, streamed large files.

Imports `inference` and the rooms below it, and `images`.
"""
