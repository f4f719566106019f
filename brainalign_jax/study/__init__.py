"""A study: models x subjects x layers x folds x methods, run, saved and reported."""
