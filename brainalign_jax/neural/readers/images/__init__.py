"""Readers of images that anyone may have: files named one by one, and BIDS derivatives."""
