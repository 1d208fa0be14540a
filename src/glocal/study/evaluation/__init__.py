"""Compare inference methods on whole images.

`methods` defines full image, crop-and-stitch and TLC; `comparison` restores every image with each
of them and measures; `records` holds the measurements, their protocol and their means; `pictures`
stores restored images for the report.
"""
