"""Experiments: absl-flag mains, each one library call."""
