"""`export`: a converted network as an ONNX or .pt2 file, compared with the network.

Imports `inference`, `conversion` and the rooms below them. Only `onnx` imports onnx and its like.
"""
