"""Choose the window, and what to convert, on a few images, doing no harm.

`candidates` says what is worth trying, `groups` which operations may be left global together,
`measuring` scores a candidate, `trials` chooses and judges on images that did not choose,
`recommendation` puts it into words, and `search` is `tune` itself.
"""
