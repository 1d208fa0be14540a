"""Find the global operations of a network: record its calls, track dims, list them in a `Plan`.

Imports `ops`, `texts` and `errors`; contains nothing about published networks.
"""
