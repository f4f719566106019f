"""Evidence beside the scores: null draws, controls, ceilings, intervals, p-values."""
