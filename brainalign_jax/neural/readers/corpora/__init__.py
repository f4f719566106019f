"""Readers of corpora of stories in sections, each with its words on a clock of its own."""
