"""Write converted networks to ONNX and .pt2 files that are checked.

Imports `conversion` and the rooms below it. Only the modules `onnx` and `onnx_*` import the
packages onnx, onnxscript and onnxruntime.
"""
