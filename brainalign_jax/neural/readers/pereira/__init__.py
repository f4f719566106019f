"""Pereira et al. 2018: the participants' MATLAB files, and the 180 words of experiment 1 as arrays."""
