# SPDX-License-Identifier: MIT
"""Normal or abnormal heart sounds, from the raw waveform: no windows, no features.

    python examples/heart_sounds.py FOLDER [--epochs 30]
    python examples/heart_sounds.py --quick

FOLDER is a folder of PhysioNet's 2016 challenge (Liu et al., 2016). It has recordings of 5 to 120
seconds at 2 kHz, name.wav, and REFERENCE.csv with lines name,label, where 1 is abnormal and -1
normal. Three GILRLSTM layers of 16 units read each recording sample by sample, up to 240,000 steps.
The recordings of a batch have similar lengths, and are padded and masked. A tenth is held out.
--quick makes a folder of short synthetic recordings, with slow or fast beats, to try the program.
"""

import argparse
import csv
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from output import verbosity

import tf_plr

OUTPUT = Path(__file__).parent / "output"
HERTZ = 2000
PADDING = -1000.0  # In standard deviations: no sample reaches it.


def load(folder):
    """([samples of a recording], labels): labels are 1 for abnormal, 0 for normal."""
    reference = Path(folder) / "REFERENCE.csv"
    if not reference.exists():
        raise ValueError(f"{folder} must have a file REFERENCE.csv")
    recordings, labels = [], []
    with reference.open(newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if len(row) != 2 or row[1].strip() not in ("1", "-1"):
                raise ValueError(f"{reference}, line {number}, must be name,1 or name,-1: {row}")
            path = reference.with_name(f"{row[0]}.wav")
            if not path.exists():
                raise ValueError(f"{reference}, line {number}, names {path}, which is not there")
            recordings.append(read(path))
            labels.append(int(row[1]) > 0)
    if not recordings:
        raise ValueError(f"{reference} is empty")
    return recordings, np.array(labels, int)


def read(path):
    """Samples in units of their deviation."""
    from scipy.io import wavfile

    try:
        hertz, samples = wavfile.read(path)
    except ValueError as error:
        raise ValueError(f"{path} is no wave file: {error}") from error
    if hertz != HERTZ or samples.ndim != 1 or len(samples) == 0:
        raise ValueError(
            f"{path} must have one channel at {HERTZ} Hz, but has shape {samples.shape} at {hertz}"
        )
    samples = samples.astype("float32") - samples.mean()
    return samples / max(samples.std(), 1e-6)


class Batches(keras.utils.PyDataset):
    """Batches, in random order, of recordings of similar lengths, padded to one length."""

    def __init__(self, recordings, labels, batch, seed=None):
        super().__init__()
        order = np.argsort([len(r) for r in recordings], kind="stable")
        self._batches = [order[i : i + batch] for i in range(0, len(order), batch)]
        self._recordings, self._labels = recordings, labels
        self._rng = None if seed is None else np.random.default_rng(seed)

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, i):
        chosen = self._batches[i]
        # Round up to few distinct lengths, because each length is compiled separately.
        longest = -(-max(len(self._recordings[j]) for j in chosen) // (4 * HERTZ)) * 4 * HERTZ
        x = np.full((len(chosen), longest, 1), PADDING, "float32")
        for row, j in enumerate(chosen):
            x[row, : len(self._recordings[j]), 0] = self._recordings[j]
        return x, self._labels[chosen]

    def on_epoch_end(self):
        if self._rng is not None:
            self._rng.shuffle(self._batches)


def build(units=16, memory=2 * HERTZ):
    """Builds the model with a memory of a few heartbeats; Masking's mask reaches all layers."""
    model = keras.Sequential([keras.Input((None, 1)), keras.layers.Masking(PADDING)])
    for _ in range(3):
        model.add(
            tf_plr.GILRLSTM(
                units,
                return_sequences=True,
                forget_bias=tf_plr.initializers.Chrono(memory),
                input_bias=None,
                layer_normalization=True,
            )
        )
    model.add(keras.layers.GlobalAveragePooling1D())
    model.add(keras.layers.Dense(1, "sigmoid"))
    return model


def make_synthetic(folder, count=24):
    from scipy.io import wavfile

    rng = np.random.default_rng(0)
    lines = []
    for i in range(count):
        fast = bool(rng.integers(2))
        samples = rng.normal(0, 300, int(HERTZ * rng.uniform(1.0, 2.0)))
        samples[:: HERTZ // (8 if fast else 3)] += 20_000
        wavfile.write(folder / f"a{i:04}.wav", HERTZ, samples.astype("int16"))
        lines.append(f"a{i:04},{1 if fast else -1}\n")
    (folder / "REFERENCE.csv").write_text("".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="synthetic recordings, two epochs")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    OUTPUT.mkdir(exist_ok=True)
    if arguments.quick:
        arguments.epochs, arguments.batch = 2, 4
        with tempfile.TemporaryDirectory() as folder:
            make_synthetic(Path(folder))
            recordings, labels = load(folder)
    elif arguments.folder is None:
        parser.error("a folder of PhysioNet's 2016 challenge is needed, or --quick")
    else:
        recordings, labels = load(arguments.folder)
    seconds = np.array([len(r) for r in recordings]) / HERTZ
    print(f"{len(labels)} recordings of {seconds.min():.1f} to {seconds.max():.1f} s, ", end="")
    print(f"{labels.mean():.0%} of them abnormal" + " (synthetic)" * arguments.quick)
    order = np.random.default_rng(0).permutation(len(labels))
    held_out, kept = np.split(order, [max(1, len(order) // 10)])
    parts = [([recordings[i] for i in part], labels[part]) for part in (kept, held_out)]
    model = build()
    model.compile(
        keras.optimizers.Adam(0.003, global_clipnorm=1.0),
        "binary_crossentropy",
        metrics=["accuracy", keras.metrics.Recall(name="sensitivity")],
    )
    test = Batches(*parts[1], arguments.batch)
    model.fit(
        Batches(*parts[0], arguments.batch, seed=0),
        epochs=arguments.epochs,
        validation_data=test,
        verbose=2 if arguments.quick else verbosity(),
    )
    likely = np.concatenate([model.predict_on_batch(test[i][0])[:, 0] for i in range(len(test))])
    truth = np.concatenate([test[i][1] for i in range(len(test))])
    result = {}
    for name, of in (("sensitivity", truth == 1), ("specificity", truth == 0)):
        if of.any():
            result[name] = float(np.mean((likely[of] > 0.5) == truth[of]))
    print(f"held out, {len(truth)} recordings: {result}")
    (OUTPUT / "heart_sounds.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
