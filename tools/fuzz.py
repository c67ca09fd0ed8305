# SPDX-License-Identifier: MIT
"""Checks the native ops on random problems against float64.

    python tools/fuzz.py --problems 20000 [--seed 0]
    python tools/fuzz.py --only 1234 [--seed 0]      # One of them again, alone.

The seed and a number determine a problem: an op, or a layer of packed rows; a shape, an axis, a
direction, a dtype, an algorithm, and arguments. Decays may be 0, 1, -1, above 1 or denormal, and
one impulse may be NaN. Each failure is printed with its number; the exit code is 1 if there was
one.
"""

import argparse
import collections
import sys
import time
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "ops"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "layers"))

import numpy as np
import reference
import tensorflow as tf
import test_causal_windows
import test_gated_recurrence
import test_layer_normalization
import test_packed
from support import call
from test_gradients import assert_gradients, gradients
from test_recurrence import to_tensors

import tf_plr
from tf_plr._ops.arguments import DTYPES
from tf_plr._ops.causal_windows import causal_windows
from tf_plr._ops.gated_recurrence import gated_recurrence, unfused_gated_recurrence
from tf_plr._types import ALGORITHMS

DECAYS = ("any", "0", "1", "-1", "near 1", "above 1", "denormal", "a mixture")
MODES = ("eager", "eager", "eager", "function", "xla")  # Compiling takes most of the time.
SMALLEST_NORMAL = {
    "float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "complex64": 2.0**-126
}  # fmt: skip


def size_of(rng, most):
    """Draws a size up to `most`, log-uniformly: small sizes are as likely as large ones."""
    return int(np.exp(rng.uniform(0, np.log(most + 1))))


def decays_of(rng, kind, shape, steps):
    signs = rng.choice([-1.0, 1.0], shape)
    if kind in ("0", "1", "-1"):
        return np.full(shape, float(kind))
    if kind == "near 1":
        return signs * (1 - rng.uniform(0, 4 / max(4, steps), shape))
    if kind == "above 1":  # Small enough for float16 not to overflow.
        return signs * rng.uniform(1, 1 + 4 / max(8, steps), shape)
    if kind == "denormal":
        return signs * rng.uniform(0, 1e-40, shape)
    if kind == "a mixture":
        return rng.choice([0.0, 1.0, -1.0, 1e-40, 0.5], shape)
    return rng.uniform(-1, 1, shape)


def recurrence(rng):
    """(description of a random problem, function that checks it)."""
    rank = int(rng.integers(1, 5))
    shape = [size_of(rng, 30) for _ in range(rank)]
    axis = int(rng.integers(rank))
    shape[axis] = size_of(rng, 4000 if rng.random() < 0.2 else 100)
    if rng.random() < 0.05:
        shape[int(rng.integers(rank))] = 0
    shape, steps = tuple(shape), shape[axis]
    dtype, algorithm = rng.choice(DTYPES), rng.choice(ALGORITHMS)
    kind, mode, reverse = rng.choice(DECAYS), rng.choice(MODES), bool(rng.random() < 0.5)
    if algorithm == "composed":  # XLA takes seconds to compile its dozens of ops.
        mode = "eager"
    wide = np.complex128 if dtype.startswith("complex") else np.float64

    def exact(values):
        if wide is np.complex128:
            values = values * np.exp(1j * rng.uniform(0, 2 * np.pi, values.shape))
        return np.asarray(values).astype(tf.as_dtype(dtype).as_numpy_dtype).astype(wide)

    decays = exact(decays_of(rng, kind, shape, steps))
    alike = [axis for axis in range(len(shape)) if rng.random() < 0.4 and shape[axis] > 0]
    if rng.random() < 0.5:  # Broadcast them over these axes.
        decays = decays[tuple(slice(1 if axis in alike else None) for axis in range(len(shape)))]
    impulses = exact(rng.normal(size=shape) / max(1, steps) ** 0.5)
    columns = shape[:axis] + shape[axis + 1 :]
    state = exact(rng.normal(size=columns) * 0.1) if rng.random() < 0.5 else None
    d_states = exact(rng.normal(size=shape) / max(1, steps) ** 0.5)
    nan = rng.random() < 0.1 and min(shape) > 0
    place = tuple(int(rng.integers(max(1, size))) for size in shape)
    said = (f"recurrence {shape} axis {axis} {dtype} {algorithm} {mode} {kind} {decays.shape}"
            f"{' reverse' if reverse else ''}{' state' if state is not None else ''}"
            f"{' NaN' if nan else ''}")  # fmt: skip

    def run(decays, impulses, state):
        return tf_plr.linear_recurrence(
            decays, impulses, state, axis=axis, reverse=reverse, algorithm=algorithm
        )

    def check():
        tensors = to_tensors([decays, impulses, state], dtype)
        actual = np.asarray(call(run, tensors, mode)).astype(wide)
        everywhere = np.broadcast_to(decays, shape)
        expected = reference.linear_recurrence(everywhere, impulses, state, axis, reverse)
        accumulated = reference.UNIT_ROUNDOFF[reference.ACCUMULATOR[dtype]]
        bound = reference.error_bound(everywhere, impulses, state, accumulated, axis, reverse)
        bound += 2 * reference.UNIT_ROUNDOFF[dtype] * np.abs(expected)
        # Denormal numbers may be flushed to zero, both in the accumulator and in the result.
        bound += 2 * (steps + 1) * SMALLEST_NORMAL.get(dtype, 1e-300)
        np.testing.assert_array_less(np.abs(actual - expected), bound)
        if nan:  # It must reach its own step and later ones, in its own column only.
            with_nan = impulses.copy()
            with_nan[place] = np.nan
            tensors[1] = tf.constant(with_nan, dtype)
            found = np.isnan(np.asarray(run(*tensors)).astype(wide))
            reached = np.zeros(shape, bool)
            after = slice(None, place[axis] + 1) if reverse else slice(place[axis], None)
            reached[(*place[:axis], after, *place[axis + 1 :])] = True
            np.testing.assert_array_equal(found, reached)
        elif axis == 1 and kind not in ("denormal", "a mixture"):
            actual = gradients(
                [t for t in tensors if t is not None], tf.constant(d_states, dtype), axis=1,
                reverse=reverse, algorithm=algorithm,
            )  # fmt: skip
            assert_gradients(actual, decays, impulses, state, d_states, reverse, dtype)

    return said, check


def gated(rng):
    cell, dtype = (
        rng.choice(list(test_gated_recurrence.CELLS)),
        rng.choice(test_gated_recurrence.DTYPES),
    )
    shape = (size_of(rng, 6), size_of(rng, 400), size_of(rng, 80))
    extras = bool(rng.random() < 0.7)
    arguments, keywords = test_gated_recurrence.draw(rng, cell, shape, dtype, extras)
    keywords["algorithm"] = str(rng.choice(["auto", "parallel", "serial"]))
    keep = bool(rng.random() < 0.5)
    said = f"gated {cell} {shape} {dtype} {keywords['algorithm']}{' all inputs' if extras else ''}"

    def check():
        expected = test_gated_recurrence.results(
            unfused_gated_recurrence,
            test_gated_recurrence.as_tensors(arguments, "float64"),
            **keywords,
        )
        actual = test_gated_recurrence.results(
            gated_recurrence,
            test_gated_recurrence.as_tensors(arguments, dtype),
            keep_states=keep,
            **keywords,
        )
        roundings = 16 * reference.UNIT_ROUNDOFF[dtype]
        roundings += 8 * shape[1] * reference.UNIT_ROUNDOFF["float32"]
        for a, e in zip(actual, expected, strict=True):
            scale = max(1e-3, np.abs(e).max(initial=0))
            if e.ndim == 1:  # The bias' gradient sums one gradient per row of the product.
                scale = np.sqrt(shape[0] * shape[1]) * max(1e-3, np.abs(expected[2]).max())
            np.testing.assert_allclose(tf.cast(a, tf.float64), e, rtol=0, atol=roundings * scale)

    return said, check


def windows(rng):
    shape = (size_of(rng, 5), size_of(rng, 600), size_of(rng, 150), 1 + size_of(rng, 12))
    masked, dtype = bool(rng.random() < 0.6), rng.choice(test_gated_recurrence.DTYPES)

    def check():
        inputs, history, mask = test_causal_windows.draw(rng, shape, masked)
        actual = causal_windows(tf.cast(inputs, dtype), tf.cast(history, dtype), mask, shape[-1])
        expected = test_causal_windows.reference(inputs, history, mask, shape[-1])
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(tf.cast(a, tf.float64), e)

    return f"windows {shape} {dtype}{' masked' if masked else ''}", check


def normalization(rng):
    shape = (size_of(rng, 600), size_of(rng, 12000))
    dtype, with_bias = rng.choice(test_gated_recurrence.DTYPES), bool(rng.random() < 0.5)

    def check():
        test_layer_normalization.test_values_and_gradients(rng, shape, dtype, with_bias)

    return f"normalization {shape} {dtype}", check


def packed(rng):
    problem = test_packed.draw(rng)
    return f"packed {problem}", lambda: test_packed.check(problem)


KINDS = {"recurrence": 0.6, "gated": 0.2, "windows": 0.1, "normalization": 0.05, "packed": 0.05}


def problem_of(seed, number, kind=None):
    rng = np.random.default_rng([seed, number])
    drawn = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    return globals()[kind or drawn](rng)


def run(seed, numbers, say=lambda *_: None, kind=None):
    """(number of problems of each op, failures)."""
    counts, failed = collections.Counter(), []
    start = time.perf_counter()
    for done, number in enumerate(numbers):
        said, check = problem_of(seed, number, kind)
        try:
            check()
        except Exception:
            failed.append((number, said, traceback.format_exc(limit=-1)))
        counts[said.split()[0]] += 1
        say(done + 1, time.perf_counter() - start, len(failed))
    return counts, failed


def main():
    tf.get_logger().setLevel("ERROR")  # Do not warn that each problem is retraced: it must be.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one problem")
    parser.add_argument("--kind", choices=KINDS, help="only problems of this kind")
    arguments = parser.parse_args()
    numbers = range(arguments.problems) if arguments.only is None else [arguments.only]

    def say(done, seconds, failures):
        if done % 100 == 0:
            left = seconds / done * (len(numbers) - done)
            print(f"\r{done:,} problems, {failures} failed, {left:.0f} s left", end="", flush=True)

    counts, failed = run(arguments.seed, numbers, say, arguments.kind)
    print(f"\nseed {arguments.seed}: {dict(counts)}, {len(failed)} failed")
    for number, said, error in failed:
        print(f"\n--only {number}: {said}\n{error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
