# SPDX-License-Identifier: MIT
"""What is installed, and which kernels work here: `python -m tf_plr`.

The exit code is 0 if all is well, and 1 if not; what is wrong is said at the end.
"""

import platform
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tf_plr
from tf_plr import _library
from tf_plr.causal_windows import causal_windows
from tf_plr.gated_recurrence import gated_recurrence

DECAYS, IMPULSES = tf.fill([3], 0.5), tf.ones([3])


def recurrence() -> Any:
    return tf_plr.linear_recurrence(DECAYS, IMPULSES)


def gradient() -> Any:
    with tf.GradientTape() as tape:
        tape.watch(IMPULSES)
        last = tf_plr.linear_recurrence(DECAYS, IMPULSES)[2]
    return tape.gradient(last, IMPULSES)


def fused() -> Any:
    product, state = tf.zeros([1, 2, 2]), tf.ones([1, 1])
    outputs, _ = gated_recurrence(
        product, tf.constant([0.0, 1.0]), None, state, None, cell="f", blocks=[0, 1],
        keep_states=False, algorithm="auto",
    )  # fmt: skip
    return outputs[0, :, 0]


def windows() -> Any:
    return causal_windows(tf.constant([[[2.0], [3.0]]]), tf.constant([[1.0]]), None, 2)[0][0]


IMPULSE = np.tanh(1) / 2
# What it is: what runs it, and its result.
KERNELS = {
    "recurrence": (recurrence, [1, 1.5, 1.75]),
    "its gradient": (gradient, [0.25, 0.5, 1]),
    "fused cells": (fused, [0.5 + IMPULSE, 0.25 + 1.5 * IMPULSE]),
    "windows": (windows, [[1, 2], [2, 3]]),
}


def say_versions() -> None:
    print(f"tf_plr      {tf_plr.__version__}, {Path(tf_plr.__file__).parent}")
    print(f"TensorFlow  {tf.__version__}, {Path(tf.__file__).parent}")
    print(f"Keras       {keras.__version__}, backend {keras.backend.backend()}")
    print(f"NumPy       {np.__version__}")
    print(f"Python      {platform.python_version()}, {platform.platform()}")


def say_library(problems: list[str]) -> dict[str, Any]:
    """Prints what the native library is; returns what its build says of it, or nothing."""
    try:
        built = _library.information()
        print(
            f"library     {_library.PATH}, {_library.PATH.stat().st_size / 1e6:.1f} MB, for "
            f"TensorFlow {built['tensorflow']} on {built['machine']}"
        )
        print(f"            compiled by {built['compiler']}")
        gpus = ", ".join(f"sm_{number}" for number in built["cuda_architectures"])
        print(f"            CUDA {built['cuda']}, for {gpus}" if gpus else "            CPU only")
        _library.load_library()
    except ImportError as error:
        problems.append(str(error))
        return {}
    return built


def say_devices(built: dict[str, Any], problems: list[str]) -> list[str]:
    """Prints the devices, and returns their names."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        major, minor = details.get("compute_capability", (0, 0))
        print(f"GPU         {details.get('device_name', gpu.name)}, sm_{major}{minor}")
        oldest = min(map(int, built.get("cuda_architectures", [])), default=0)
        if built and not oldest:
            problems.append(
                "there is a GPU, but the library was built without GPU code, so its ops run on the "
                "CPU: build it where nvcc is found, and without TF_PLR_CUDA=0"
            )
        elif 10 * major + minor < oldest:
            problems.append(
                f"the library was built for GPUs from sm_{oldest} on, but this one is "
                f"sm_{major}{minor}: build it with TF_PLR_CUDA_ARCHITECTURES={10 * major + minor}"
            )
    if not gpus and Path("/dev/nvidiactl").exists():
        problems.append(
            "there is an NVIDIA driver, but TensorFlow finds no GPU: it needs its CUDA libraries, "
            "as tensorflow[and-cuda] has them, and a driver that is not older than they want "
            f"(CUDA {tf.sysconfig.get_build_info().get('cuda_version', 'none: a CPU build')})"
        )
    elif not gpus:
        print("GPU         none")
    return ["CPU", *(["GPU"] if gpus else [])]


def try_kernels(device: str, problems: list[str]) -> None:
    for compiled in (False, True):
        words = []
        for name, (run, expected) in KERNELS.items():
            place = f"{name} on the {device}{', XLA' if compiled else ''}"
            try:
                with tf.device(f"/{device}:0"):
                    result = tf.function(run, jit_compile=compiled)()
                np.testing.assert_allclose(result, expected, rtol=1e-5)
                words.append(f"{name} works")
            except Exception as error:
                words.append(f"{name} FAILS")
                problems.append(f"{place}: {str(error).strip().splitlines()[0]}")
        print(f"{device + (', XLA' if compiled else ''):11} {', '.join(words)}")


def main() -> int:
    problems: list[str] = []
    say_versions()
    built = say_library(problems)
    devices = say_devices(built, problems)
    if built:
        for device in devices:
            try_kernels(device, problems)
    for problem in problems:
        print(f"\nPROBLEM     {problem}")
    if not problems:
        print("All is well.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
