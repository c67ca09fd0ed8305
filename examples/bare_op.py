# SPDX-License-Identifier: MIT
"""The op alone: moving averages, discounted returns, advantages, and a decay that is learned.

    python examples/bare_op.py [--steps 10000000] [--quick]

Each is one call of `tf_plr.linear_recurrence`, and is checked against the usual way to compute it:
pandas' ewm, SciPy's lfilter, or a loop.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from tf_plr import linear_recurrence


def moving_average(x, alpha):
    """y_t = (1 - alpha) y_{t-1} + alpha x_t, from y_0 = x_0 on.

    x is [time, series], alpha [series] or one number: decays are the same at all steps.
    """
    alpha = tf.cast(alpha, x.dtype)
    return linear_recurrence(tf.reshape(1 - alpha, [1, -1]), alpha * x, initial_state=x[0])


def discounted(rewards, goes_on, discount):
    """G_t = r_t + discount G_{t+1}, where an episode goes on after t."""
    return linear_recurrence(discount * goes_on, rewards, reverse=True)


def advantages(rewards, values, goes_on, discount, trace):
    """Generalized advantage estimation (Schulman et al., ICLR 2016, equation 16).

    A_t = d_t + discount trace A_{t+1}, with d_t = r_t + discount V_{t+1} - V_t.
    """
    next_values = tf.concat([values[1:], [0.0]], 0)
    errors = rewards + discount * goes_on * next_values - values
    return discounted(errors, goes_on, discount * trace)


def seconds(function, *arguments):
    """(what it returns, the time of a second call): the first one traces and allocates."""
    np.asarray(function(*arguments))  # On a GPU, waits for the result.
    start = time.perf_counter()
    result = np.asarray(function(*arguments))
    return result, time.perf_counter() - start


def compare(name, ours, theirs, rival, tolerance):
    (actual, fast), (expected, slow) = ours, theirs
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    print(f"{name}: {fast * 1e3:,.1f} ms; {rival} {slow * 1e3:,.1f} ms; differ by {error:.0e}")
    if not error < tolerance:
        raise SystemExit(f"{name} differs from {rival} by {error:.1e}")


def loop(rewards, goes_on, discount):
    returns, after = np.empty_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        after = returns[t] = rewards[t] + discount * goes_on[t] * after
    return returns


def learn_decays(x, decays, iterations):
    """Finds the decays of moving averages from their outputs, by gradient descent through time."""
    target = moving_average(x, 1 - tf.constant(decays, tf.float32))
    # decay = sigmoid(logit), so 1 - decay = sigmoid(-logit) is accurate even near 1.
    logits = tf.Variable(tf.zeros(len(decays)))

    @tf.function
    def step(rate):
        with tf.GradientTape() as tape:
            errors = tf.reduce_mean((moving_average(x, tf.sigmoid(-logits)) - target) ** 2, 0)
            loss = tf.reduce_sum(tf.math.log(errors + 1e-12))
        # Use only the gradient's sign: each series then moves on, however small its error is.
        logits.assign_sub(rate * tf.sign(tape.gradient(loss, logits)))

    for i in range(iterations):
        step(tf.constant(0.3 * 0.97**i))
    return tf.sigmoid(logits).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the steps")
    arguments = parser.parse_args()
    import pandas as pd
    from scipy.signal import lfilter

    steps = arguments.steps // 100 if arguments.quick else arguments.steps
    rng = np.random.default_rng(0)
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    print(f"{steps:,} steps, float32, on the {device}; the others on the CPU")

    prices = rng.normal(size=(steps // 8, 8)).cumsum(0).astype("float32")
    frame = pd.DataFrame(prices)
    compare(
        f"moving averages of {prices.shape[1]} series",
        seconds(tf.function(moving_average), tf.constant(prices), tf.constant(0.01)),
        seconds(lambda: frame.ewm(alpha=0.01, adjust=False).mean()),
        "pandas' ewm",
        1e-4,
    )

    rewards = rng.normal(size=steps).astype("float32")
    discount = np.float32(0.99)
    endless = np.ones(steps, "float32")
    compare(
        "returns without episodes",
        seconds(tf.function(discounted), *map(tf.constant, (rewards, endless, discount))),
        seconds(lambda: lfilter([1], [1, -discount], rewards[::-1])[::-1]),
        "SciPy's lfilter",
        1e-4,
    )
    goes_on = (rng.random(steps) > 1e-3).astype("float32")
    compare(
        "returns of episodes",
        seconds(tf.function(discounted), *map(tf.constant, (rewards, goes_on, discount))),
        seconds(loop, rewards, goes_on, discount),
        "a loop",
        1e-4,
    )
    values = rng.normal(size=steps).astype("float32")
    gae = tf.function(lambda *arrays: advantages(*arrays, discount=discount, trace=0.95))
    deltas = rewards + discount * goes_on * np.append(values[1:], 0.0).astype("float32") - values
    compare(
        "advantages",
        seconds(gae, *map(tf.constant, (rewards, values, goes_on))),
        seconds(loop, deltas, goes_on, discount * np.float32(0.95)),
        "a loop",
        1e-4,
    )

    decays = np.array([0.5, 0.9, 0.99, 0.999])
    x = tf.constant(rng.normal(size=(min(steps, 100_000), len(decays))), tf.float32)
    found = learn_decays(x, decays, 200)
    of = [f"{f:.4f} of {decay}" for f, decay in zip(found, decays, strict=True)]
    print("decays learned:", ", ".join(of))


if __name__ == "__main__":
    main()
