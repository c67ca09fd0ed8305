# SPDX-License-Identifier: MIT
"""When a locust's ear fires: ten seconds of sound at 20 kHz, 200,000 samples.

    pip install scipy matplotlib
    pip install --no-deps nitime==0.12.1          # the recording
    python examples/spikes.py [--iterations 400] [--quick]

The nitime package has a sound (its loudness) and the 929 times at which an auditory receptor neuron
of a locust fired. Two causal GILRLSTM layers train on the first four fifths as one sequence, and
learn which samples are within half a millisecond of a spike. Precision and recall are those of the
last fifth, which the layers never heard: a spike is found if a peak of the output above 0.2 lies
within 2 ms. (That height, the learning rate and the iterations did best on the fourth fifth, with
training on the first three.) The neuron itself does not fire at exactly the same moments twice.
"""

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import peaks

from tf_plr import GILRLSTM

HERTZ = 20_000
NEAR, TOLERANCE, APART = 0.0005, 0.002, 0.0015  # Seconds.


def load():
    """(the sound's loudness, at which samples the neuron fired)."""
    folder = peaks.folder_of("nitime") / "data"
    sound = np.loadtxt(folder / "grasshopper_stimulus1.txt")[:, 1]
    microseconds = np.loadtxt(folder / "grasshopper_spike_times1.txt")
    return sound, (microseconds * HERTZ / 1e6).round().astype(int)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--forget-bias", type=float, default=4.0, help="4: a memory of 3 ms")
    parser.add_argument("--quick", action="store_true", help="a few iterations on half a second")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    peaks.OUTPUT.mkdir(exist_ok=True)
    sound, spikes = load()
    if arguments.quick:
        sound, arguments.iterations = sound[: HERTZ // 2], 20
        spikes = spikes[spikes < len(sound)]
    cut = len(sound) * 4 // 5
    sound = peaks.scaled(sound, cut)
    labels = peaks.near(spikes, len(sound), int(NEAR * HERTZ))

    layers = [
        GILRLSTM(
            arguments.units,
            return_sequences=True,
            forget_bias=arguments.forget_bias,
            input_bias=None,
        )
        for _ in range(2)
    ]
    model = keras.Sequential([keras.Input((None, 1)), *layers, keras.layers.Dense(1)])
    seconds = peaks.train(model, sound[:cut], labels[:cut], arguments.iterations, rate=0.003)
    print(f"an epoch, one sequence of {cut:,} samples: {seconds:.4f} s")
    likely, found = peaks.find(model, sound[cut:], apart=int(APART * HERTZ), height=0.2)
    held_out = spikes[spikes >= cut] - cut
    precision, recall = peaks.precision_and_recall(found, held_out, TOLERANCE * HERTZ)
    print(f"held out: {len(held_out)} spikes, precision {precision:.3f}, recall {recall:.3f}")
    result = {"precision": precision, "recall": recall, "epoch_seconds": seconds}
    (peaks.OUTPUT / "spikes.json").write_text(json.dumps(result, indent=1) + "\n")
    peaks.plot("spikes", sound[cut:][: HERTZ // 4], HERTZ, likely, found, held_out)


if __name__ == "__main__":
    main()
