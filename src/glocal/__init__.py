"""Trained global, run local: test-time local conversion of image-restoration networks."""
