"""Run exported networks in onnxruntime and OpenVINO, in place of torch.

`network_files` keeps the exported files, `runtimes` opens them, `engine` runs a network by them.
Imports `exporting` and the rooms below it.
"""
