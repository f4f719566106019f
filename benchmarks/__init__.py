"""Benchmarks: time and error against a reference and a peer, in one run."""
