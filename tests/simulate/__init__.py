"""Releases that only the tests write: planted ground truth in the files of the original ones."""
