"""When, in the epoch around a word, is which layer of a model there? MEG, EEG, ECoG and the like.

    python -m experiments.timecourse --dataset=mne --data_dir=meg --reader_options=words=words.tsv,picks=mag \
        --models=gpt2 --generalise_time --output_dir=out/timecourse

Writes OUT/timecourse.parquet (a row a person, layer, window and metric), OUT/peaks.parquet, with
--generalise_time OUT/time_generalisation.parquet, OUT/figures/, OUT/manifest.json and OUT/report.html. The
same as `brainalign timecourse`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.timecourse import TIMECOURSE as COMMAND

main = absl_main(COMMAND, __name__, "python -m experiments.timecourse")

if __name__ == "__main__":
    app.run(main)
