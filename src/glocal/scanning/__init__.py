"""Find the global operations of a network and list them in a `Plan`.

Imports `ops`, `texts` and `errors`; contains nothing about published networks.
"""
