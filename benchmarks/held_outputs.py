# SPDX-License-Identifier: MIT
"""The cost of repeating the last valid output at masked steps. It is linear in the steps.

    python benchmarks/held_outputs.py [--steps 262144 1048576 4194304 16777216]

The fused op of a QRNN layer runs over one sequence of float32, 32 units wide, whose second half is
masked: with this repetition ("hold") and without ("plain"). Both results are checked before they
are timed. Times are in milliseconds per call. Each is the minimum of five rounds; a round makes
eight calls and then waits for the result. GB/s is that of "plain"; it counts the product and the
outputs once.
"""

import argparse
import time

import numpy as np
import tensorflow as tf
from environment import environment

from tf_plr._ops.gated_recurrence import Parts, gated_recurrence

UNITS, CALLS, ROUNDS = 32, 8, 5


def outputs_of(product, mask, hold):
    return gated_recurrence(
        product, bias=None, highway=None, prefix=None, initial_state=None, mask=mask,
        parts=Parts("gated"), blocks=[0, 1, 2], keep_states=False, algorithm="auto", hold=hold,
    )[0]  # fmt: skip


@tf.function
def last_of_many(product, mask, hold):
    last = product[0, -1, 0]
    for _ in range(CALLS):
        with tf.control_dependencies([last]):
            last = outputs_of(tf.identity(product), mask, hold)[0, -1, 0]
    return last


def check(product, mask):
    held, plain = (outputs_of(product, mask, hold).numpy()[0] for hold in (True, False))
    valid = mask.numpy()[0]
    np.testing.assert_array_equal(held[valid], plain[valid])
    np.testing.assert_array_equal(
        held[~valid], np.broadcast_to(held[valid][-1], held[~valid].shape)
    )
    assert np.any(held[-1])


def milliseconds(*arguments):
    last_of_many(*arguments).numpy()
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        last_of_many(*arguments).numpy()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return 1e3 * best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = [2**18, 2**20, 2**22, 2**24]
    parser.add_argument("--steps", type=int, nargs="+", default=steps)
    arguments = parser.parse_args()
    print(environment())
    print(f"{'steps':>12} {'plain, ms':>10} {'GB/s':>6} {'hold, ms':>10} {'more, ms':>10}")
    for steps in arguments.steps:
        product = tf.random.stateless_normal([1, steps, 3 * UNITS], seed=[0, 0])
        mask = tf.range(steps)[None] < steps // 2
        check(product, mask)
        plain, held = (milliseconds(product, mask, hold) for hold in (False, True))
        rate = 4 * UNITS * steps * 4 / plain / 1e6
        print(f"{steps:>12,} {plain:>10.3f} {rate:>6.0f} {held:>10.3f} {held - plain:>10.3f}")


if __name__ == "__main__":
    main()
