# SPDX-License-Identifier: MIT
"""Finds events in a long signal, one sequence; shared by ecg.py, spikes.py and anomalies.py."""

import importlib.util
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from output import Progress, subplots

OUTPUT = Path(__file__).parent / "output"


def folder_of(package):
    found = importlib.util.find_spec(package)
    if found is None:
        raise SystemExit(f"{package} is missing: install what the docstring names")
    return Path(found.submodule_search_locations[0])


def scaled(samples, learned):
    """Standardizes samples by the mean and deviation of the first `learned`, the training part."""
    return ((samples - samples[:learned].mean()) / samples[:learned].std()).astype("float32")


def near(events, length, distance):
    """Labels: 1 at samples within `distance` of an event, 0 elsewhere."""
    labels = np.zeros(length, "float32")
    for event in events:
        labels[max(0, event - distance) : event + distance + 1] = 1
    return labels


def train(model, samples, labels, iterations, rate):
    """Trains on one whole sequence, so an epoch is one step. Returns the seconds of an epoch."""
    rates = keras.optimizers.schedules.CosineDecay(rate, iterations)
    model.compile(
        keras.optimizers.Adam(rates, global_clipnorm=1.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    times = []
    bar = Progress(iterations, stateful_metrics=["loss"])
    for i in range(iterations):
        start = time.perf_counter()
        loss = float(model.train_on_batch(samples[None, :, None], labels[None, :, None]))
        times.append(time.perf_counter() - start)
        bar.update(i + 1, [("loss", loss)])
    return float(np.median(times[1:]))


def find(model, samples, apart, height=0.5):
    """(probability that an event is near each sample, positions of its peaks).

    Peaks are at least `height` high, and at least `apart` samples apart.
    """
    from scipy.signal import find_peaks

    likely = tf.sigmoid(model.predict(samples[None, :, None], verbose=0)[0, :, 0]).numpy()
    return likely, find_peaks(likely, height=height, distance=apart)[0]


def precision_and_recall(found, events, tolerance):
    """(share of found peaks with an event within `tolerance`, share of events with a found peak).

    Each peak matches at most one event: in the order of time, an event takes the first free peak.
    """
    hits, i = 0, 0
    for event in events:
        while i < len(found) and found[i] < event - tolerance:
            i += 1
        if i < len(found) and found[i] <= event + tolerance:
            hits, i = hits + 1, i + 1
    return hits / max(1, len(found)), hits / max(1, len(events))


def plot(name, signal, hertz, likely, found, events):
    """Draws `signal` and the events found in it, to the output folder."""
    seconds = np.arange(len(signal)) / hertz
    figure, (above, below) = subplots(2, 1, figsize=(10, 4), sharex=True)
    above.plot(seconds, signal, linewidth=0.8)
    for places, marker, label in ((events, "o", "labelled"), (found, "x", "found")):
        places = places[places < len(signal)]
        above.plot(seconds[places], signal[places], marker, fillstyle="none", label=label)
    above.legend(loc="upper right", fontsize="small")
    above.set_ylabel("signal, held out")
    below.plot(seconds, likely[: len(signal)], linewidth=0.8)
    below.set(xlabel="seconds", ylabel="how likely near", ylim=(0, 1))
    figure.savefig(OUTPUT / f"{name}.png", dpi=120, bbox_inches="tight")
