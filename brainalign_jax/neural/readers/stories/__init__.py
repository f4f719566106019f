"""The readers of stories: a text read or heard in a scanner, one text for all subjects."""
