"""Image files: pixels, metadata, formats. The only room that uses pyvips.

Imports `errors` and `arrays` only.
"""
