# SPDX-License-Identifier: MIT
"""The op on the CPU against tf.add of the same traffic and the stock ways to write a recurrence.

    python benchmarks/cpu.py [--threads 2] [--output benchmarks/results/cpu.json]

Every contender is checked against a float64 loop before it is timed; one that is wrong gets no
time. Contenders take turns, so that a slow moment of the machine hits all of them; times are the
minimum in milliseconds.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The benchmark is of kernels, not of the page faults of fresh memory.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")

import keras
import numpy as np
import tensorflow as tf

import tf_plr

# [batch, time, features]
SHAPES = [(1, 4096, 4096), (64, 1024, 256), (1, 65536, 256), (1, 65536, 16), (16, 65536, 1)]


def tf_scan(decays, impulses):
    first = (tf.transpose(decays, [1, 0, 2]), tf.transpose(impulses, [1, 0, 2]))
    states = tf.scan(lambda h, ax: ax[0] * h + ax[1], first, tf.zeros_like(first[1][0]))
    return tf.transpose(states, [1, 0, 2])


def associative_scan(decays, impulses):
    def compose(first, second):
        return second[0] * first[0], second[0] * first[1] + second[1]

    return keras.ops.associative_scan(compose, (decays, impulses), axis=1)[1]


def contenders():
    def op(algorithm):
        return lambda a, x: tf_plr.linear_recurrence(a, x, axis=1, algorithm=algorithm)

    return {
        "tf.add": tf.add,
        "tf_plr auto": op("auto"),
        "tf_plr serial": op("serial"),
        "tf_plr parallel": op("parallel"),
        "tf_plr composed": tf.function(op("composed")),
        "tf.scan": tf.function(tf_scan),
        "tf.scan XLA": tf.function(tf_scan, jit_compile=True),
        "keras associative_scan": tf.function(associative_scan),
    }


def exact(decays, impulses):
    states = np.empty(decays.shape)
    state = np.zeros_like(states[:, 0])
    for t in range(decays.shape[1]):
        state = decays[:, t].astype(np.float64) * state + impulses[:, t]
        states[:, t] = state
    return states


def times(functions, seconds):
    """The minimum of each, in ms; a contender gets turns until it has used `seconds`."""
    best = dict.fromkeys(functions, float("inf"))
    used = dict.fromkeys(functions, 0.0)
    while active := [name for name in functions if used[name] < seconds]:
        for name in active:
            start = time.perf_counter()
            functions[name]()
            elapsed = time.perf_counter() - start
            best[name] = min(best[name], elapsed * 1e3)
            used[name] += elapsed
    return best


def environment(threads):
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": threads,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "tf_plr": tf_plr.__version__,
        "commit": commit,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1.0, help="for each contender and shape")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)

    result = {"environment": environment(arguments.threads), "dtype": "float32", "forward": []}
    print(json.dumps(result["environment"]))
    print(f"{'batch x time x features':>24} {'contender':>24} {'ms':>10} {'GB/s':>7} {'/ add':>7}")
    for shape in SHAPES:
        rng = np.random.default_rng(0)
        a = tf.constant(rng.uniform(0, 1, shape), tf.float32)
        x = tf.constant(rng.normal(size=shape), tf.float32)
        expected = exact(a.numpy(), x.numpy())
        functions = {}
        for name, function in contenders().items():
            right = name == "tf.add" or np.abs(function(a, x) - expected).max() < 1e-4
            if right:
                functions[name] = lambda function=function, a=a, x=x: function(a, x)
            else:
                print(f"{name} is wrong at {shape}")
        best = times(functions, arguments.seconds)
        for name, ms in best.items():
            gigabytes = 3 * 4 * np.prod(shape) / ms / 1e6
            ratio = ms / best["tf.add"]
            label = "x".join(map(str, shape))
            print(f"{label:>24} {name:>24} {ms:10.3f} {gigabytes:7.1f} {ratio:7.2f}", flush=True)
            result["forward"].append(
                {
                    "shape": shape,
                    "contender": name,
                    "ms": ms,
                    "gb_per_s": gigabytes,
                    "of_add": ratio,
                }
            )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
