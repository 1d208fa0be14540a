"""Compiled versions of window operations; see `native`."""
