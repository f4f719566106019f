"""Scores: folds, methods, decoding, and the sweep over all of a study's cells."""
