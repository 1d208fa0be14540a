"""C++ forms of window operations: statistics (`native`) and transposed attention."""
