# SPDX-License-Identifier: MIT
"""Packed rows against padded batches: an epoch over sequences of very different lengths.

    python benchmarks/packing.py --output benchmarks/results/packing_<device>.json

The lengths are log-uniform. An epoch visits all sequences once, by

    padded    batches of sequences in random order, filled up with masked steps;
    sorted    the same with sequences sorted by length, so that a batch is nearly full (training
              then sees a batch of short sequences only, and many batches are small);
    packed    rows of one length, by `tf_plr.pack`, with resets.

A batch has `--batch` sequences, or rows. Inputs are drawn on the device; only their shapes count.
First the packed outputs are checked against those of the padded sequences.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from environment import environment

import tf_plr

INPUTS = 16


def model_of(units):
    x = keras.Input((None, INPUTS))
    mask = keras.Input((None,), dtype="bool")
    resets = keras.Input((None,), dtype="bool")
    hidden = x
    for _ in range(2):
        layer = tf_plr.GILRLSTM(units, return_sequences=True, zero_output_for_mask=True)
        hidden = layer(hidden, mask=mask, resets=resets)
    return keras.Model([x, mask, resets], keras.layers.Dense(1)(hidden))


def check(model, rng):
    lengths = rng.integers(1, 60, 20)
    values = rng.normal(size=(lengths.sum(), INPUTS)).astype("float32")
    sequences = tf.RaggedTensor.from_row_lengths(values, lengths)
    packed = tf_plr.pack(sequences, 64)
    actual = tf_plr.unpack(model([packed.values, packed.mask, packed.resets]), packed)
    mask = tf.sequence_mask(lengths)
    law = model([sequences.to_tensor(), mask, tf.zeros_like(mask)])
    np.testing.assert_allclose(actual.values, tf.boolean_mask(law, mask), atol=1e-3)


def training_step(model):
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)

    def run(batch, steps, mask, resets):
        x = tf.random.normal([batch, steps, INPUTS])
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model([x, mask, resets], training=True) ** 2)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    integer = tf.TensorSpec([], tf.int32)
    flags = tf.TensorSpec([None, None], tf.bool)
    return tf.function(run, input_signature=[integer, integer, flags, flags])


def padded_batches(lengths, batch):
    for i in range(0, len(lengths), batch):
        of_batch = lengths[i : i + batch]
        mask = tf.sequence_mask(of_batch)
        yield mask, tf.zeros_like(mask)


def packed_batches(packed, batch):
    for i in range(0, len(packed.mask), batch):
        yield packed.mask[i : i + batch], packed.resets[i : i + batch]


def epoch(step, batches):
    """(seconds, steps of all rows), after a first epoch that compiles and warms up."""
    batches = list(batches)
    for measured in (False, True):
        start = time.perf_counter()
        for mask, resets in batches if measured else batches[:: max(1, len(batches) // 20)]:
            loss = step(*map(int, mask.shape), mask, resets)
        loss.numpy()
    return time.perf_counter() - start, sum(int(tf.size(mask)) for mask, _ in batches)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--lengths", type=int, nargs=2, default=[20, 8000])
    parser.add_argument("--row", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", default="", help="to record where there is no git")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    least, most = np.log(arguments.lengths)
    lengths = np.exp(rng.uniform(least, most, arguments.sequences)).astype("int64")
    model = model_of(arguments.units)
    check(model, rng)
    step = training_step(model)

    values = tf.RaggedTensor.from_row_lengths(tf.zeros([lengths.sum(), 1]), lengths)
    tf_plr.pack(values, arguments.row)
    start = time.perf_counter()
    packed = tf_plr.pack(values, arguments.row)
    packed.mask.numpy()
    seconds_to_pack = time.perf_counter() - start

    contenders = {
        "padded": padded_batches(lengths, arguments.batch),
        "sorted": padded_batches(np.sort(lengths), arguments.batch),
        "packed": packed_batches(packed, arguments.batch),
    }
    result = {
        "environment": environment(arguments.commit),
        **{k: getattr(arguments, k) for k in ("sequences", "lengths", "row", "batch", "units")},
        "steps": int(lengths.sum()), "seconds_to_pack": seconds_to_pack, "epochs": {},
    }  # fmt: skip
    print(json.dumps(result))
    for name, batches in contenders.items():
        seconds, steps = epoch(step, batches)
        result["epochs"][name] = {"seconds": seconds, "filled": lengths.sum() / steps}
        ratio = seconds / result["epochs"]["padded"]["seconds"]
        print(f"{name:>8} {seconds:8.2f} s ({ratio:4.2f}), {lengths.sum() / steps:4.0%} filled")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
