# SPDX-License-Identifier: MIT
"""Predicts the time of a training step on many replicas from the rows of distributed.py."""

import math

import numpy as np

# Exchanges in a sequence-parallel step of the model: two layers with two recurrences each, forward
# and backward; and two for the last output.
EXCHANGES = 2 * 2 * 2 + 2
# A step's time is predicted for these numbers of replicas and milliseconds per exchange.
COUNTS, EXCHANGE_MS = [2**i for i in range(11)], (0.1, 1.0)


def fit_model(rows, name, at_once):
    """Fits a replica's time: (fixed ms, ms per time step). `at_once` replicas run at a time."""
    replicas = rows[0]["replicas"] if name == "several" else 1
    shards = np.array([row["steps"] / replicas for row in rows])
    times = np.array([row[name] for row in rows]) * at_once / replicas
    # Divide by the times, to minimize relative errors.
    a = np.stack([np.ones_like(shards), shards], 1) / times[:, None]
    fixed, each = np.linalg.lstsq(a, np.ones(len(rows)), rcond=None)[0]
    return max(float(fixed), 0.0), float(each)


def predictions(rows, gpus):
    """Predicts the time of a step on more replicas than were measured, each on its own GPU.

    The work of a replica takes the measured time. Exchanges between more GPUs and machines take
    longer; how long is an assumption: EXCHANGE_MS for each level of the tree of replicas that was
    not measured.
    Returns {} if fewer than two lengths were measured.
    """
    rows = [row for row in rows if row["kind"] == "sequence" and {"one", "several"} <= row.keys()]
    if len(rows) < 2:
        return {}
    replicas = rows[0]["replicas"]
    one = fit_model(rows, "one", 1)
    several = fit_model(rows, "several", min(replicas, gpus))

    def predict(steps, count, exchange):
        if count == 1:
            return one[0] + one[1] * steps
        levels = math.log2(count) - (math.log2(replicas) if gpus >= replicas else 0)
        sums = EXCHANGES * exchange * max(0.0, levels)
        return several[0] + several[1] * steps / count + sums

    return {
        "model": {
            "one, ms": one[0],
            "one, ns a step": 1e6 * one[1],
            "a replica, ms": several[0],
            "a replica, ns a step": 1e6 * several[1],
        },
        "predicted": [
            {
                "steps": steps,
                "replicas": COUNTS,
                "ms": {x: [predict(steps, count, x) for count in COUNTS] for x in EXCHANGE_MS},
            }
            for steps in (2**17, 2**20, 2**23, 2**26, 10**9)
        ],
    }
