"""What all families are built of: layers, attention, blocks, the transformer."""
