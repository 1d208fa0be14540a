"""Make the global operations of a network local, and check the result.

Rules convert common modules, the rewriter converts other blocks, and both are compared with the
original. Imports `scanning`, `ops` and `errors`; knows no published network.
"""
