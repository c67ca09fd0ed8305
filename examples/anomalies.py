# SPDX-License-Identifier: MIT
"""Finds an anomaly in an ECG of 7,500 samples with a net that saw only normal heartbeats.

    pip install scipy matplotlib
    pip install --no-deps sktime==1.2.0           # the recording
    python examples/anomalies.py [--iterations 400] [--quick]

The recording in the sktime package has one labelled anomaly of 352 samples. Two GILRLSTM layers
learn, without labels, to forecast the next sample; they train on the first half of the recording as
one sequence. The forecast error is averaged over a beat. The next tenth of the recording is known
to be normal, and the largest error there is the threshold: later samples with larger errors are
called anomalous. Precision and recall count the samples after that tenth.
"""

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import peaks
from output import subplots

from tf_plr import GILRLSTM

BEAT = 300  # Samples: about one heartbeat.


def load():
    """(samples in millivolts, whether each is anomalous)."""
    path = peaks.folder_of("sktime") / "datasets" / "data" / "mitdb" / "mitdb.csv"
    samples, labels = np.loadtxt(path, delimiter=",", skiprows=1, unpack=True)
    return samples, labels > 0


def around(values):
    """The mean over a beat around each sample."""
    return np.convolve(values, np.full(BEAT, 1 / BEAT), "same")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="a few iterations")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    peaks.OUTPUT.mkdir(exist_ok=True)
    samples, anomalous = load()
    learned, known = len(samples) // 2, len(samples) * 6 // 10
    samples = peaks.scaled(samples, learned)
    normal = slice(learned, known)  # Not learned from, and known to be normal.

    layers = [
        GILRLSTM(arguments.units, return_sequences=True, forget_bias=3.0, input_bias=None)
        for _ in range(2)
    ]
    model = keras.Sequential([keras.Input((None, 1)), *layers, keras.layers.Dense(1)])
    iterations = 20 if arguments.quick else arguments.iterations
    rate = keras.optimizers.schedules.CosineDecay(0.01, iterations)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), "mse")
    x, y = samples[None, :-1, None], samples[None, 1:, None]
    model.fit(x[:, :learned], y[:, :learned], epochs=iterations, verbose=2)

    forecast = model.predict(x, verbose=0)[0, :, 0]
    error = around(np.r_[0, np.abs(forecast - samples[1:])])
    threshold = error[normal].max()
    called = error > threshold
    rest = slice(known, None)
    hits = (called & anomalous)[rest].sum()
    precision, recall = hits / max(1, called[rest].sum()), hits / anomalous[rest].sum()
    print(f"held out: {anomalous[rest].sum()} anomalous samples of {len(samples) - known}: "
          f"precision {precision:.3f}, recall {recall:.3f}")  # fmt: skip
    result = {"precision": float(precision), "recall": float(recall)}
    (peaks.OUTPUT / "anomalies.json").write_text(json.dumps(result, indent=1) + "\n")

    figure, (above, below) = subplots(2, 1, figsize=(10, 4), sharex=True)
    above.plot(samples, linewidth=0.6)
    above.fill_between(range(len(samples)), *above.get_ylim(), where=anomalous, alpha=0.3)
    above.set_ylabel("ECG; labelled")
    below.plot(error, linewidth=0.8)
    below.axhline(threshold, color="gray", linewidth=0.8)
    below.axvline(known, color="gray", linestyle=":")
    below.set(xlabel="samples", ylabel="error of the forecast")
    figure.savefig(peaks.OUTPUT / "anomalies.png", dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
