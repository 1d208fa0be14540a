"""Write converted networks to ONNX and .pt2 files that are checked.

Imports `inference`, `conversion` and the rooms below them. Only the module `onnx` imports the
packages onnx, onnxscript and onnxruntime.
"""
