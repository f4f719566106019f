"""Scores and what they are worth: correlations, permutations, bootstraps, slopes, surrogates."""
