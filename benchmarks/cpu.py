# SPDX-License-Identifier: MIT
"""The op on the CPU against tf.add of the same traffic and other ways to compute a recurrence.

    python benchmarks/cpu.py [--threads 2] [--only NAME ...] [--output benchmarks/results/cpu.json]

There are three passes: "forward"; "gradient", the reverse pass alone; and "train", both. The
gradient is compared with 5/3 of tf.add's time, because it moves five arrays and tf.add three. Every
contender is checked against a float64 loop before it is timed; a wrong one gets no time. Contenders
take turns, so that a slow moment of the machine affects all of them. Times are minima, in
milliseconds. numba, JAX, TensorFlow Probability, SciPy and PyTorch are timed if they are installed.
scipy.signal.lfilter has one decay for all steps, so it reads one array less.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Reuse freed memory: page faults of fresh memory would dominate the times of the kernels.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")

import keras
import numpy as np
import tensorflow as tf
from environment import environment

import tf_plr
from tf_plr._native.library import load_ops
from tf_plr._native.portable import Portable, register_handlers

# [batch, time, features]
SHAPES = [
    (1, 4096, 4096), (64, 1024, 256), (1, 65_536, 256), (1, 65_536, 16), (16, 65_536, 1),
    (1, 1_048_576, 1),
]  # fmt: skip
# Skip these contenders beyond so many steps, where they take many seconds.
SLOW = {
    "forward": {"tf.scan": 100_000, "tf.scan XLA": 100_000},
    "gradient": {},
    "train": {"tf.scan": 4096, "tf.scan XLA": 1024},
}
DECAY = 0.9  # The one decay of lfilter.


def tf_scan(decays, impulses):
    first = (tf.transpose(decays, [1, 0, 2]), tf.transpose(impulses, [1, 0, 2]))
    states = tf.scan(lambda h, ax: ax[0] * h + ax[1], first, tf.zeros_like(first[1][0]))
    return tf.transpose(states, [1, 0, 2])


def compose(first, second):
    return second[0] * first[0], second[0] * first[1] + second[1]


def keras_scan(decays, impulses):
    return keras.ops.associative_scan(compose, (decays, impulses), axis=1)[1]


def trained(states_of):
    """Returns (states, d_decays, d_impulses); the impulses double as the gradient of the states."""

    def train(decays, impulses):
        with tf.GradientTape() as tape:
            tape.watch([decays, impulses])
            states = states_of(decays, impulses)
        return states, *tape.gradient(states, [decays, impulses], output_gradients=impulses)

    return train


def by_portable_library(decays, impulses):
    """Runs the portable library, the fallback if the ops were built for another TensorFlow."""
    problem = register_handlers()
    if problem:
        raise RuntimeError(problem)
    inputs = {"decays": decays, "impulses": impulses, "initial_state": []}
    attributes = {"axis": 1, "reverse": False, "algorithm": "auto"}
    return Portable().call("LinearRecurrence", inputs, attributes)


def tensorflow_ways():
    def op(algorithm):
        return lambda a, x: tf_plr.linear_recurrence(a, x, axis=1, algorithm=algorithm)

    ways = {
        "tf_plr auto": op("auto"),
        "tf_plr serial": op("serial"),
        "tf_plr parallel": op("parallel"),
        "tf_plr composed": tf.function(op("composed")),
        "tf_plr portable": tf.function(by_portable_library),
        "tf.scan": tf.function(tf_scan),
        "tf.scan XLA": tf.function(tf_scan, jit_compile=True),
        "keras associative_scan": tf.function(keras_scan),
    }
    try:
        from tensorflow_probability import math
    except ImportError:
        return ways
    ways["tfp scan_associative"] = tf.function(
        lambda a, x: math.scan_associative(compose, (a, x), axis=1)[1]
    )
    return ways


def contenders(kind):
    """Functions of TensorFlow tensors (decays, impulses); they wait for their results."""
    if kind == "gradient":
        library = load_ops()

        def gradient(algorithm):
            # x is passed twice: as the states and as their gradient.
            return lambda a, x: library.tf_plr_linear_recurrence_grad(
                a, x, x, [], [], axis=1, reverse=False, algorithm=algorithm
            )[:2]

        return {f"tf_plr {name}": gradient(name) for name in ("auto", "serial", "parallel")}
    ways = tensorflow_ways()
    if kind == "train":
        ways = {name: trained(way) for name, way in ways.items()}
        for name in ways:
            if name not in ("tf_plr auto", "tf_plr serial", "tf_plr parallel"):
                ways[name] = tf.function(ways[name], jit_compile=name.endswith("XLA"))
    ways.update(numba_ways(kind))
    ways.update(jax_ways(kind))
    if kind == "forward":
        ways.update(scipy_ways())
        ways.update(torch_ways())
    return ways


def numba_ways(kind):
    try:
        from numba import njit
    except ImportError:
        return {}

    @njit
    def states_of(a, x):
        h = np.empty_like(x)
        for b in range(a.shape[0]):
            h[b, 0] = x[b, 0]
            for t in range(1, a.shape[1]):
                for c in range(a.shape[2]):
                    h[b, t, c] = a[b, t, c] * h[b, t - 1, c] + x[b, t, c]
        return h

    @njit
    def gradients_of(a, h, d):
        d_a, d_x = np.zeros_like(a), np.empty_like(a)
        for b in range(a.shape[0]):
            d_x[b, -1] = d[b, -1]
            for t in range(a.shape[1] - 1, 0, -1):
                for c in range(a.shape[2]):
                    d_a[b, t, c] = h[b, t - 1, c] * d_x[b, t, c]
                    d_x[b, t - 1, c] = d[b, t - 1, c] + a[b, t, c] * d_x[b, t, c]
        return d_a, d_x

    def train(a, x):
        states = states_of(a, x)
        return states, *gradients_of(a, states, x)

    way = states_of if kind == "forward" else train
    return {"numba loop": lambda a, x: way(a.numpy(), x.numpy())}


def jax_ways(kind):
    try:
        import jax
    except ImportError:
        return {}

    def states_of(a, x):
        return jax.lax.associative_scan(compose, (a, x), axis=1)[1]

    def train(a, x):
        states, pull_back = jax.vjp(states_of, a, x)
        return states, *pull_back(x)

    way = jax.jit(states_of if kind == "forward" else train)
    return {"jax associative_scan": lambda a, x: jax.block_until_ready(way(a.numpy(), x.numpy()))}


def torch_ways():
    """accelerated-scan's reference for any device, with the transpositions that it needs."""
    try:
        import torch
        from accelerated_scan.ref import scan
    except ImportError:
        return {}

    def states_of(a, x):
        a, x = (torch.from_numpy(t.numpy()).transpose(1, 2).contiguous() for t in (a, x))
        return scan(a, x).transpose(1, 2).contiguous().numpy()

    return {"torch accelerated-scan reference": states_of}


def scipy_ways():
    try:
        from scipy import signal
    except ImportError:
        return {}
    numerator, denominator = np.float32([1]), np.float32([1, -DECAY])
    return {"scipy lfilter": lambda a, x: signal.lfilter(numerator, denominator, x.numpy(), axis=1)}


def exact(decays, impulses):
    """(states, d_decays, d_impulses)."""
    decays, impulses = decays.astype(np.float64), impulses.astype(np.float64)
    states, d_impulses = impulses.copy(), impulses.copy()
    for t in range(1, decays.shape[1]):
        states[:, t] += decays[:, t] * states[:, t - 1]
    for t in range(decays.shape[1] - 1, 0, -1):
        d_impulses[:, t - 1] += decays[:, t] * d_impulses[:, t]
    d_decays = np.zeros_like(states)
    d_decays[:, 1:] = states[:, :-1] * d_impulses[:, 1:]
    return states, d_decays, d_impulses


def is_right(name, kind, actual, decays, impulses, expected):
    if name == "scipy lfilter":
        expected = exact(np.full_like(decays, DECAY), impulses)
    if kind == "forward":
        actual, expected = [actual], expected[:1]
    if kind == "gradient":  # It was given the impulses as states.
        d_decays = np.zeros_like(expected[2])
        d_decays[:, 1:] = impulses[:, :-1] * expected[2][:, 1:]
        expected = [d_decays, expected[2]]
    return all(
        np.abs(np.asarray(a) - e).max() < 1e-4 * max(1, np.abs(e).max())
        for a, e in zip(actual, expected, strict=True)
    )


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


def copy_gb_per_s(seconds):
    """The rate at which one thread copies 64 MiB, counting reads and writes."""
    source = np.ones(16 << 20, np.float32)
    target = np.empty_like(source)
    ms = times({"copy": lambda: np.copyto(target, source)}, seconds)["copy"]
    return 2 * source.nbytes / ms / 1e6


def small_call_us(calls=2000):
    """Microseconds of an eager call on 16 x 16 elements, and of tf.add's."""
    a = tf.fill([1, 16, 16], 0.5)
    functions = {
        "tf.add": tf.add,
        "tf_plr": lambda a, x: tf_plr.linear_recurrence(a, x, axis=1),
        "tf_plr portable": by_portable_library,
    }
    best = {}
    for _ in range(5):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                function(a, a)
            elapsed = (time.perf_counter() - start) / calls * 1e6
            best[name] = min(best.get(name, elapsed), elapsed)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1.0, help="for each contender and shape")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the contenders these")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)

    small = small_call_us()
    result = {
        "environment": {**environment(), "threads": arguments.threads},
        "dtype": "float32",
        "small_call_us": small,
        "copy_gb_per_s": copy_gb_per_s(arguments.seconds),
        "rows": [],
    }
    print(json.dumps(result["environment"]))
    print("16 x 16, eager:", ", ".join(f"{name} {us:.1f} us" for name, us in small.items()))
    print(f"64 MiB copy, one thread: {result['copy_gb_per_s']:.1f} GB/s")
    for kind, arrays in (("forward", 3), ("gradient", 5), ("train", 8)):
        ways = contenders(kind)
        if arguments.only:
            ways = {name: way for name, way in ways.items() if name in arguments.only}
        for shape in SHAPES:
            rng = np.random.default_rng(0)
            a = rng.uniform(0, 1, shape).astype(np.float32)
            x = rng.normal(size=shape).astype(np.float32)
            expected = exact(a, x)
            tensors = tf.constant(a), tf.constant(x)
            functions = {"tf.add": lambda tensors=tensors: tf.add(*tensors)}
            for name, way in ways.items():
                if shape[1] > SLOW[kind].get(name, shape[1]):
                    continue
                if is_right(name, kind, way(*tensors), a, x, expected):
                    functions[name] = lambda way=way, tensors=tensors: way(*tensors)
                else:
                    print(f"{name} is wrong at {shape}")
            for name, ms in (best := times(functions, arguments.seconds)).items():
                moved = 3 if name == "tf.add" else arrays
                row = {
                    "pass": kind,
                    "shape": shape,
                    "contender": name,
                    "ms": ms,
                    "gb_per_s": moved * 4 * np.prod(shape) / ms / 1e6,
                    "of_add": ms / best["tf.add"] * 3 / moved,
                }
                result["rows"].append(row)
                print(
                    f"{kind:>8} {'x'.join(map(str, shape)):>14} {name:>24} {ms:10.3f} ms "
                    f"{row['gb_per_s']:7.1f} GB/s {row['of_add']:8.2f} of tf.add's traffic",
                    flush=True,
                )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
