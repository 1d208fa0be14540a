"""Files and folders through a network: overlapped stages, resumable runs, streamed large files.

Imports `inference` and the rooms below it, and `images`.
"""
