# SPDX-License-Identifier: MIT
"""The time of a training step on more replicas than there are, of what distributed.py measured."""

import math

import numpy as np

# Of a step of the model, in sequence parallel form: two recurrences in each layer, forward and
# backward, and the last output.
EXCHANGES = 2 * 2 * 2 + 2
# For which a step's time is predicted: so many replicas, and milliseconds of an exchange.
COUNTS, EXCHANGE_MS = [2**i for i in range(11)], (0.1, 1.0)


def fit_model(rows, name, at_once):
    """(ms, ms a step of time) of a replica, fitted to what so many at once took, by length."""
    replicas = rows[0]["replicas"] if name == "several" else 1
    shards = np.array([row["steps"] / replicas for row in rows])
    times = np.array([row[name] for row in rows]) * at_once / replicas
    # Relative errors count alike.
    a = np.stack([np.ones_like(shards), shards], 1) / times[:, None]
    fixed, each = np.linalg.lstsq(a, np.ones(len(rows)), rcond=None)[0]
    return max(float(fixed), 0.0), float(each)


def predictions(rows, gpus):
    """The time of a step on more replicas than there are, each on a GPU.

    A replica takes what was measured. Sums over replicas take longer between GPUs and machines, how
    long is taken for granted: so many milliseconds for each level of a tree of replicas. {} if
    fewer than two lengths were measured.
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
