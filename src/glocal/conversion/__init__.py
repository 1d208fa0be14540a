"""`localize`: rules first, then the rewriter, then the proof that both kept the laws.

Imports `scanning`, `ops` and `errors`; knows no published network.
"""
