# SPDX-License-Identifier: MIT
"""When a grasshopper's ear fires: ten seconds of sound at 20 kHz, 200,000 samples, as one sequence.

    pip install --no-deps nitime==0.12.1          # the recordings
    python examples/spikes.py [--iterations 300] [--quick]

The nitime package has two sounds and the times at which an auditory receptor neuron of a locust
fired at each. Two GILRLSTM layers, causal, hear the first sound as one sequence, and learn where
the neuron is about to have fired; precision and recall are those of the other sound, which they
never heard: a spike is found if a peak of the output lies within 2 ms. The neuron itself does not
fire at the same moments twice.
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


def load(number):
    """(the sound in units of its deviation, at which samples the neuron fired)."""
    folder = peaks.folder_of("nitime") / "data"
    sound = np.loadtxt(folder / f"grasshopper_stimulus{number}.txt")[:, 1]
    microseconds = np.loadtxt(folder / f"grasshopper_spike_times{number}.txt")
    sound = ((sound - sound.mean()) / sound.std()).astype("float32")
    return sound, (microseconds * HERTZ / 1e6).round().astype(int)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="a few iterations on half a second")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    peaks.OUTPUT.mkdir(exist_ok=True)
    (sound, spikes), (other_sound, other_spikes) = load(1), load(2)
    if arguments.quick:
        sound, other_sound = sound[: HERTZ // 2], other_sound[: HERTZ // 2]
        spikes, other_spikes = (s[s < HERTZ // 2] for s in (spikes, other_spikes))
        arguments.iterations = 20
    labels = peaks.near(spikes, len(sound), int(NEAR * HERTZ))

    layers = [GILRLSTM(arguments.units, return_sequences=True, forget_bias=3.0) for _ in range(2)]
    model = keras.Sequential([keras.Input((None, 1)), *layers, keras.layers.Dense(1)])
    seconds = peaks.train(model, sound, labels, arguments.iterations, rate=0.01)
    print(f"an epoch, one sequence of {len(sound):,} samples: {seconds:.4f} s")
    likely, found = peaks.find(model, other_sound, apart=int(APART * HERTZ))
    precision, recall = peaks.precision_and_recall(found, other_spikes, TOLERANCE * HERTZ)
    print(f"held out: {len(other_spikes)} spikes, precision {precision:.3f}, recall {recall:.3f}")
    result = {"precision": precision, "recall": recall, "epoch_seconds": seconds}
    (peaks.OUTPUT / "spikes.json").write_text(json.dumps(result, indent=1) + "\n")
    peaks.plot("spikes", other_sound[: HERTZ // 4], HERTZ, likely, found, other_spikes)


if __name__ == "__main__":
    main()
