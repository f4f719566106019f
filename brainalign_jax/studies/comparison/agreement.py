"""How well people agree on a word: is it near the same words in one person as in the others?"""

from collections.abc import Sequence

import numpy as np


def word_agreement(people: Sequence[np.ndarray]) -> np.ndarray:
    """[T]: correlation of a word's similarities to all other words in one person and in the others, mean.

    people: mean responses [T, V] of each, of any features; the others' similarities are the mean of their
    cosines about the words' mean. 0 for a word that does not vary, NaN of one person.
    """
    n_types = len(people[0])
    if len(people) < 2:
        return np.full(n_types, np.nan)
    others = ~np.eye(n_types, dtype=bool)
    cosines = []
    for rows in people:
        centred = np.asarray(rows, np.float64)
        centred = centred - centred.mean(axis=0)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        unit = centred / np.where(length > 0, length, 1)
        cosines.append((unit @ unit.T)[others].reshape(n_types, n_types - 1))
    total = sum(cosines)
    values = []
    for of_person in cosines:
        rest = (total - of_person) / (len(people) - 1)
        a = of_person - of_person.mean(axis=1, keepdims=True)
        b = rest - rest.mean(axis=1, keepdims=True)
        size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        values.append((a * b).sum(axis=1) / np.where(size > 0, size, np.inf))
    return np.mean(values, axis=0)
