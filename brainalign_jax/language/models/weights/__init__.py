"""Files to parameters: folders, formats, adapters, and what fills a model."""
