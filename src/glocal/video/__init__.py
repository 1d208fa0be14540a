"""Video files: containers, frames, colours, encoders. The only room that uses PyAV.

Knows no networks; `glocal.runs.video` restores the frames.
"""
