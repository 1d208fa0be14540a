"""Measure the ways of running a network on whole images, side by side.

`ways` are full image, crop-and-stitch and TLC; `comparison` restores every image in each of them
and measures; `records` hold what was measured and how, and what follows; `pictures` are the
restored images that are kept for looking at.
"""
