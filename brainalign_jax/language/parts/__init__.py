"""Parts of a model switched off or weighted: which there are, ablations of them, their gates."""
