"""How far the statistics of a network's global operations are from those it was trained on.

`statistic` names what is measured of each operation, `probe` catches it in the network as it is,
`window_probe` in the converted one; `measure` collects it over crops and images, `distances`
compares, `report` ranks. `seams` shows what crop-and-stitch leaves, `files` writes it all.
"""
