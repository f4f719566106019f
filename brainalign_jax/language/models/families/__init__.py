"""One module a family: its architecture from config.json, and its tensors' names; `table` has them all."""
