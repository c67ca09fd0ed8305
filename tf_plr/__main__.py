# SPDX-License-Identifier: MIT
"""Reports what is installed, and which kernels work here: `python -m tf_plr`.

Problems are listed at the end. The exit code is 1 if there are any, and 0 otherwise.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # Other processes may use the GPU.

import keras
import numpy as np
import tensorflow as tf

import tf_plr
from tf_plr import _native
from tf_plr._native import library
from tf_plr._ops.causal_windows import causal_windows
from tf_plr._ops.gated_recurrence import Parts, gated_recurrence


def recurrence(decays: Any, impulses: Any) -> Any:
    return tf_plr.linear_recurrence(decays, impulses)


def gradient(decays: Any, impulses: Any) -> Any:
    with tf.GradientTape() as tape:
        tape.watch(impulses)
        last = tf_plr.linear_recurrence(decays, impulses)[2]
    return tape.gradient(last, impulses)


def fused(product: Any, bias: Any, state: Any) -> Any:
    outputs, _ = gated_recurrence(
        product, bias, None, None, state, None, parts=Parts("state"), blocks=[0, 1],
        keep_states=False, algorithm="auto",
    )  # fmt: skip
    return outputs[0, :, 0]


def windows(inputs: Any, history: Any) -> Any:
    return causal_windows(inputs, history, None, 2)[0][0]


OLDEST_DRIVERS = {12: "525", 13: "580"}  # The oldest NVIDIA driver for each major CUDA release.
DECAYS, IMPULSES, IMPULSE = [0.5, 0.5, 0.5], [1, 1, 1], np.tanh(1) / 2
# Name: (function, arguments, expected result). The values are arguments of the function, because
# TensorFlow would fold constants on a CPU.
KERNELS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "recurrence": (recurrence, [DECAYS, IMPULSES], [1, 1.5, 1.75]),
    "its gradient": (gradient, [DECAYS, IMPULSES], [0.25, 0.5, 1]),
    "fused cells": (
        fused, [np.zeros([1, 2, 2]), [0, 1], [[1]]], [0.5 + IMPULSE, 0.25 + 1.5 * IMPULSE],
    ),
    "windows": (windows, [[[[2], [3]]], [[1]]], [[1, 2], [2, 3]]),
}  # fmt: skip


def print_versions(problems: list[str]) -> None:
    print(f"tf_plr      {tf_plr.__version__}, {Path(tf_plr.__file__).parent}")
    print(f"TensorFlow  {tf.__version__}, {Path(tf.__file__).parent}")
    print(f"Keras       {keras.__version__}, backend {keras.backend.backend()}")
    print(f"NumPy       {np.__version__}")
    print(f"Python      {platform.python_version()}, {platform.platform()}")
    if keras.backend.backend() != "tensorflow":
        problems.append(
            "tf_plr's layers need Keras' TensorFlow backend: set KERAS_BACKEND=tensorflow"
        )


def print_library(problems: list[str]) -> dict[str, Any]:
    """Prints which library runs the ops; returns its description, {} if there is none."""
    choice = _native.choice()
    if isinstance(choice, _native.Native):
        return print_build("library", library.OPS)
    if isinstance(choice, _native.Portable):
        problems.append(
            f"the native ops were built for TensorFlow {library.information()['tensorflow']}, so "
            f"the ops run through XLA's interface, which is slower. {library.REBUILD}"
        )
        return print_build("instead", library.ENGINE)
    problems.append(str(choice.error))
    return {}


def print_build(name: str, path: Path) -> dict[str, Any]:
    built = library.information(path)
    size = sum(part.stat().st_size for part in {path, library.ENGINE}) / 1e6
    print(
        f"{name:11} {path}, with the engine {size:.1f} MB, for TensorFlow "
        f"{built['tensorflow']} on {built['machine']}"
    )
    print(f"            compiled by {built['compiler']}")
    gpus = ", ".join(f"sm_{number}" for number in built["cuda_architectures"])
    print(f"            CUDA {built['cuda']}, for {gpus}" if gpus else "            CPU only")
    return built


def print_driver(built: dict[str, Any], problems: list[str]) -> None:
    """Prints the CUDA version of the NVIDIA driver, and reports a driver that is too old."""
    try:
        driver, version = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        driver.cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return
    major, minor = version.value // 1000, version.value % 1000 // 10
    print(f"Driver      for CUDA {major}.{minor}")
    needed = int((built.get("cuda") or "0").split(".")[0])
    if major < needed:
        oldest = OLDEST_DRIVERS.get(needed, f"for CUDA {needed}")
        problems.append(
            f"the library was built with CUDA {built['cuda']}, which needs an NVIDIA driver from "
            f"{oldest} on, but the driver here is for CUDA {major}.{minor}: update it, or build "
            f"with CUDA {major}"
        )


def print_devices(built: dict[str, Any], problems: list[str]) -> list[str]:
    """Prints the GPUs; returns the kinds of devices that the library has kernels for."""
    oldest = min(map(int, built.get("cuda_architectures", [])), default=0)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        major, minor = details.get("compute_capability", (0, 0))
        print(f"GPU         {details.get('device_name', gpu.name)}, sm_{major}{minor}")
        if built and not oldest:
            problems.append(
                "there is a GPU, but the library was built without GPU code, so its ops run on the "
                "CPU: build it where nvcc is found, with TF_PLR_CUDA=1"
            )
        elif 10 * major + minor < oldest:
            problems.append(
                f"the library was built for GPUs from sm_{oldest} on, but this one is "
                f"sm_{major}{minor}"
                + (
                    f": build it with TF_PLR_CUDA_ARCHITECTURES={10 * major + minor}"
                    if 10 * major + minor >= 80
                    else "; its kernels need sm_80"
                )
            )
    if not gpus:
        print("GPU         none")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if oldest and not gpus and not hidden and Path("/dev/nvidiactl").exists():
        cuda = tf.sysconfig.get_build_info().get("cuda_version")
        problems.append(
            f"there is an NVIDIA driver, but TensorFlow, built for CUDA {cuda}, finds no GPU: its "
            "CUDA libraries are missing, or the driver is older than they want"
            if cuda
            else "there is an NVIDIA driver, but this TensorFlow was built without GPU code"
        )
    return ["CPU", *(["GPU"] if gpus and oldest else [])]


def exports_xla() -> bool:
    """Whether this TensorFlow exports XLA's interface for custom calls."""
    library = Path(tf.sysconfig.get_lib(), "libtensorflow_framework.so.2")
    return not library.exists() or hasattr(ctypes.CDLL(str(library)), "XLA_FFI_GetApi")


def try_kernels(device: str, problems: list[str]) -> None:
    for compiled in (False, True) if exports_xla() else (False,):
        place = device + (", XLA" if compiled else "")
        words = []
        for name, (run, values, expected) in KERNELS.items():
            try:
                with tf.device(f"/{device}:0"):
                    arguments = [tf.constant(value, tf.float32) for value in values]
                    result = tf.function(run, jit_compile=compiled)(*arguments).numpy()
                if not np.allclose(result, expected, rtol=1e-5):
                    raise ValueError(f"the result is {result.tolist()}, but should be {expected}")
                words.append(f"{name} works")
            except Exception as error:
                words.append(f"{name} FAILS")
                lines = [*str(error).strip().splitlines(), ""]
                problems.append(f"{name} on the {place}: {type(error).__name__}: {lines[0]}")
        print(f"{place:11} {', '.join(words)}")


def main() -> int:
    problems: list[str] = []
    print_versions(problems)
    built = print_library(problems)
    print_driver(built, problems)
    devices = print_devices(built, problems)
    if not exports_xla():
        print(
            "XLA         not available: this TensorFlow does not export XLA_FFI_GetApi (the "
            "package tensorflow does), so jit_compile=True is an error"
        )
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
