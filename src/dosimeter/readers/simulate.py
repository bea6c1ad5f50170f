"""Readers whose threshold is known: they show whether a study, its store and its fit find what is there."""

import numpy as np

from dosimeter.readers.psychometric import Curve
from dosimeter.readers.store import Answer, Side, Store

NAME = "simulated-{}"


def simulate(store: Store, *, curve: Curve, n_readers: int, seed: int = 0) -> None:
    """Let `n_readers` answer the whole study as `curve` says, adversarial and random pairs alike.

    They guess where both images are the same in 8 bits, whatever the epsilon. From then on the study counts as
    simulated.

    Args:
        store: of a study that nobody has joined, or simulated readers only.
        curve: right answers against epsilon.
        n_readers: to add.
        seed: of their answers; each reader has its own.
    """
    store.mark_simulated()
    design = store.design
    for _ in range(n_readers):
        reader = store.join(NAME.format(len(store.displays()) + 1), simulated=True)
        rng = np.random.default_rng([seed, 1, reader.number])
        for place, trial in store.upcoming(reader.number, reader.n_trials):
            pair = design.pair(trial)
            right = rng.random() < (float(curve.share(pair.epsilon)) if pair.changed else 0.5)
            other: Side = "left" if trial.altered == "right" else "right"
            store.answer(reader.number, place, Answer(trial.altered if right else other))
