"""What is global in a network: recorded calls, their dims, and the `Plan` that lists them.

Imports `ops`, `texts` and `errors`; knows no published network.
"""
