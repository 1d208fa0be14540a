"""Compiled operations on float32 maps in CPU memory.

`build` compiles the C++ sources at installation, `library` loads the result.
"""
