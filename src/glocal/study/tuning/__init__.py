"""Choose the way of running a network, and its options, on a few images.

`candidates` generates what to try, `groups` finds operations that can be left global together,
`measuring` scores a candidate, `trials` chooses the best and validates it on held-out images,
`recommendation` explains the result, and `search` contains `tune` itself.
"""
