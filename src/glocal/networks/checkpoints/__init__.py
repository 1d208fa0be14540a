"""Checkpoints: read files, find the weights in them, and build the network that they fit.

It imports the networks and `scanning.user_code`; `fetching` and `loading` import it.
"""
