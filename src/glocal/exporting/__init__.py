"""`export`: a converted network as an ONNX or .pt2 file, checked before it is kept.

Imports `inference`, `conversion` and the rooms below them.
"""
