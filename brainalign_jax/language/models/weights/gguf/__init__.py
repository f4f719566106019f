"""GGUF files of llama.cpp as checkpoints: header, config, tensors and tokenizer are all in the file."""
