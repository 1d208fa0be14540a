"""Compare inference methods on whole images.

`methods` makes methods (full image, crop-and-stitch, TLC, crops) of ways to run a network;
`comparison` restores every image with each of them and measures; `records` holds the measurements,
their protocol and their means; `pictures` stores restored images for the report.
"""
