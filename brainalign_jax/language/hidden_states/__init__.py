"""A model's hidden states at the words: batches through the model, pooled by word type, saved."""
