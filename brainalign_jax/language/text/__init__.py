"""Text to a model's input: sub-tokens of words, contexts around them, packed rows, predicted words."""
