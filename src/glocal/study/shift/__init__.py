"""Measure the shift of statistics from training crops to full images.

`statistic` defines what is measured of each operation, `probe` records it in the original network,
`window_probe` and `crop_probe` in the converted one; `measure` collects samples over crops and
images, `distances` compares them, `report` ranks the operations. `seams` measures the seams of
crop-and-stitch, `plots` draws, and `folder` writes the results.
"""
