"""brainalign_jax: how similar are a language model's word vectors to neural responses to the words?"""

__version__ = "0.1.0"
