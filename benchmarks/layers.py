# SPDX-License-Identifier: MIT
"""Training steps of every layer through model.fit, with and without XLA, and the cost of a mask.

    python benchmarks/layers.py [--output FILE]

A model of one layer (batch 32, 2,048 steps, 64 inputs, 256 units, float32) and a Dense is fitted
to data that is already on the device. A step's time is that of an epoch over its steps, the
minimum of several epochs, in milliseconds. keras.layers.LSTM, with its cuDNN kernel on a GPU, is
timed beside.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from environment import environment

import tf_plr

BATCH, STEPS, INPUTS, UNITS = 32, 2048, 64, 256
LAYERS = {
    "GILR": tf_plr.GILR,
    "LinearSurrogateLSTM": tf_plr.LinearSurrogateLSTM,
    "SRU": tf_plr.SRU,
    "QRNN": tf_plr.QRNN,
    "keras.layers.LSTM": keras.layers.LSTM,
}


class EpochTimes(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)


def fit_ms(layer, jit_compile, steps):
    """(ms for each step, whether Keras compiled the step)."""
    x, y = tf.random.normal([BATCH, STEPS, INPUTS]), tf.random.normal([BATCH, 1])
    dataset = tf.data.Dataset.from_tensors((x, y)).repeat(steps)
    if tf.config.list_physical_devices("GPU"):
        dataset = dataset.apply(tf.data.experimental.prefetch_to_device("/GPU:0"))
    model = keras.Sequential([keras.Input((STEPS, INPUTS)), layer(UNITS), keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=jit_compile)
    times = EpochTimes()
    history = model.fit(dataset, epochs=4, verbose=0, callbacks=[times])
    losses = history.history["loss"]
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]
    return min(times.seconds[1:]) / steps * 1e3, bool(model.jit_compile)


def masked_over_unmasked(layer, calls):
    x = tf.random.normal([BATCH, STEPS, UNITS])
    mask = tf.sequence_mask(tf.random.uniform([BATCH], 1, STEPS, tf.int32), STEPS)
    instance = layer(UNITS, return_sequences=True)
    call = tf.function(lambda mask: tf.reduce_sum(instance(x, mask=mask)[:, -1]))
    best = {}
    for _ in range(3):
        for name, argument in (("unmasked", None), ("masked", mask)):
            call(argument).numpy()
            start = time.perf_counter()
            for _ in range(calls):
                result = call(argument)
            result.numpy()
            elapsed = (time.perf_counter() - start) / calls * 1e3
            best[name] = min(best.get(name, elapsed), elapsed)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", default="")
    parser.add_argument("--steps", type=int, default=10, help="in an epoch")
    arguments = parser.parse_args()
    result = {
        "environment": environment(arguments.commit),
        "shape": [BATCH, STEPS, INPUTS, UNITS],
        "dtype": "float32",
        "fit": [],
        "mask": [],
    }
    print(json.dumps(result["environment"]))
    for name, layer in LAYERS.items():
        for jit_compile in ("auto", True, False):
            try:
                ms, compiled = fit_ms(layer, jit_compile, arguments.steps)
            except tf.errors.OpError as error:
                print(f"{name:>20} jit_compile={jit_compile!s:5} {type(error).__name__}")
                continue
            print(
                f"{name:>20} jit_compile={jit_compile!s:5} {'XLA' if compiled else 'no XLA':>7} "
                f"{ms:9.2f} ms a step",
                flush=True,
            )
            result["fit"].append(
                {"layer": name, "jit_compile": jit_compile, "xla": compiled, "ms": ms}
            )
    for name, layer in LAYERS.items():
        best = masked_over_unmasked(layer, arguments.steps)
        ratio = best["masked"] / best["unmasked"]
        print(
            f"{name:>20} call {best['unmasked']:9.2f} ms, masked {best['masked']:9.2f} ms: "
            f"{ratio:.2f} times",
            flush=True,
        )
        result["mask"].append({"layer": name, **best, "ratio": ratio})
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
