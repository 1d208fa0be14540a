"""Measure whether TLC helps, why, and with which window.

Contains `evaluate`, `analyze` and `tune`.

Imports every room below the command line.
"""
