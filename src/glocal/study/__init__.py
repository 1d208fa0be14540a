"""Does local inference help, why, and with which window: `evaluate`, `analyze`, `tune`.

Imports every room below the command line.
"""
