# SPDX-License-Identifier: MIT
"""Times eager calls of the op on a GPU, and of tf.add on the same arrays.

    python benchmarks/gpu_op.py [--output FILE]

A round times many calls and one wait for the GPU. Results are microseconds per call, in the fastest
of several rounds.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from environment import environment

import tf_plr

SHAPES = [
    (1, 131_072, 512), (1, 65_536, 1024), (8, 65_536, 768), (8, 4096, 1536), (32, 2048, 1024),
    (256, 256, 1024), (64, 1024, 256), (1, 65_536, 128), (1, 256, 128),
]  # fmt: skip


def microseconds(function, calls=20, rounds=5):
    best = float("inf")
    function()
    for _ in range(rounds):
        tf.test.experimental.sync_devices()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        tf.test.experimental.sync_devices()
        best = min(best, (time.perf_counter() - start) / calls)
    return best * 1e6


def train(a, x):
    with tf.GradientTape() as tape:
        tape.watch([a, x])
        states = tf_plr.linear_recurrence(a, x, axis=1)
    return tape.gradient(states, [a, x], output_gradients=x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    result = {"environment": environment(arguments.commit), "rows": []}
    print(json.dumps(result["environment"]))
    for shape in SHAPES:
        a, x = tf.random.uniform(shape), tf.random.normal(shape)
        part = tf_plr.linear_recurrence(a[:1, :500], x[:1, :500], axis=1)
        with tf.device("/CPU:0"):
            expected = tf_plr.linear_recurrence(a[:1, :500], x[:1, :500], axis=1)
        assert "GPU" in part.device
        np.testing.assert_allclose(part, expected, atol=1e-4)
        row = {
            "shape": shape,
            "add_us": microseconds(lambda a=a, x=x: tf.add(a, x)),
            "forward_us": microseconds(lambda a=a, x=x: tf_plr.linear_recurrence(a, x, axis=1)),
            "forward_and_gradient_us": microseconds(lambda a=a, x=x: train(a, x)),
        }
        result["rows"].append(row)
        print("x".join(map(str, shape)), {k: round(v, 1) for k, v in row.items() if k != "shape"})
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
