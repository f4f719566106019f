"""Word vectors of a data set's words from several models, kept in a cache; and what the cache holds.

    python -m experiments.extract_embeddings --models=gpt2,bert-base --dataset=alice \
        --data_dir=../shared/data/alice --cache_dir=out/vectors
    python -m experiments.extract_embeddings --models=gpt2,pythia-410m --dataset=alice \
        --data_dir=../shared/data/alice --cache_dir=out/vectors --surprisal=out/surprisal.csv
    python -m experiments.extract_embeddings --cache_dir=out/vectors --list
    python -m experiments.extract_embeddings --cache_dir=out/vectors --clean

A second call with the same settings reads the cache; after an interruption a call goes on at the last
saved batch. A study finds the vectors in OUTPUT_DIR/embeddings: give that folder as --cache_dir. With MiniLM
(7 layers), the 2,129 words of Alice take about 5 s on 2 cores, of which 2 s are one compilation.

--surprisal, of causal models: each word's surprisal from the same pass, kept with the vectors and written to
the table with columns model, row (of the stimulus, from 0), word, nats, bits; empty where it is not defined
(the first word of a text without a start token; with --level=type also words without a letter or digit).
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.words import EXTRACT

main = absl_main(EXTRACT, __name__, "python -m experiments.extract_embeddings")

if __name__ == "__main__":
    app.run(main)
