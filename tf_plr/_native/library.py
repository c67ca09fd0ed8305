# SPDX-License-Identifier: MIT
"""The files of the native libraries: what they were built for, and whether they can be loaded."""

import functools
import hashlib
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_plr.version import __version__

OPS = Path(__file__).with_name("tf_plr_ops.so")  # For one release of TensorFlow; needs the engine.
ENGINE = OPS.with_name("tf_plr_engine.so")  # For that release and later ones.
REBUILD = (
    "Rebuild tf_plr with the TensorFlow that will run it: in its source tree, run `pip install "
    "--force-reinstall --no-deps --no-build-isolation .`."
)
REMEDY = (
    f'{REBUILD} Or pass algorithm="composed", which needs no library; for a cell on its own, call '
    "tf_plr.config.disable_fusion()."
)
# The fields of the JSON file that the build writes beside each library.
FIELDS = ("tf_plr", "tensorflow", "machine", "compiler", "cuda", "cuda_architectures", "sha256")


class LibraryError(ImportError):
    """A library cannot be used, for a `reason`; the message adds the remedy."""

    def __init__(self, reason: str) -> None:
        self.reason = reason.rstrip(".")
        super().__init__(f"{self.reason}. {REMEDY}")


class WrongTensorFlowError(LibraryError):
    """The ops were built for another TensorFlow than the one that is running."""


def information(library: Path | None = None) -> dict[str, Any]:
    """What the build wrote about a library, by default the ops.

    Raises:
        ImportError: the library or its description is missing, or the description is damaged.
    """
    library = library or OPS
    path = library.with_suffix(".json")
    if left_out := _left_out(path):
        raise LibraryError(
            f"this tf_plr was installed without its native libraries, as {left_out} was set: only "
            'algorithm="composed" works. Install it again without that variable'
        )
    for needed in (library, path):
        if not needed.exists():
            raise LibraryError(f"tf_plr's native library {library.name} is not built: no {needed}")
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        missing = [name for name in FIELDS if name not in found]
    except (ValueError, TypeError) as error:
        raise LibraryError(
            f"{path}, which describes {library.name}, is damaged: {error}"
        ) from error
    if missing:
        raise LibraryError(f"{path}, which describes {library.name}, lacks {', '.join(missing)}")
    return found


@functools.cache
def check(library: Path) -> None:
    """Raises a LibraryError if a library is damaged, or built for another tf_plr or processor."""
    built = information(library)
    if built["tf_plr"] != __version__:
        raise LibraryError(
            f"tf_plr's native library {library} is of tf_plr {built['tf_plr']}, but this is tf_plr "
            f"{__version__}"
        )
    if built["machine"] != platform.machine():
        raise LibraryError(
            f"tf_plr's native library {library} was built for {built['machine']} processors, but "
            f"this one is {platform.machine()}"
        )
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    if digest != built["sha256"]:  # Loading a damaged library could crash the process.
        raise LibraryError(
            f"tf_plr's native library {library} is damaged, or not the one that was built: its "
            f"SHA-256 is {digest}, but should be {built['sha256']}"
        )


@functools.cache
def load_ops() -> Any:
    """Registers the native ops with TensorFlow, and returns their module.

    Raises:
        ImportError: the library is missing or damaged, was built for another TensorFlow, tf_plr or
            kind of processor, or cannot be loaded. The message says what was found, what was
            expected, and the remedy.
    """
    built_for = information()["tensorflow"]
    if _minor(built_for) != _minor(tf.__version__):
        raise WrongTensorFlowError(
            f"tf_plr's native library {OPS} was built for TensorFlow {built_for}, but TensorFlow "
            f"{tf.__version__} is running. To use this build, run TensorFlow "
            f"{'.'.join(_minor(built_for))}"
        )
    check(ENGINE)
    check(OPS)
    try:
        ops = tf.load_op_library(str(OPS))
    except (tf.errors.OpError, OSError) as error:
        raise LibraryError(
            f"tf_plr's native library {OPS}, built for TensorFlow {built_for}, could not be "
            f"loaded into TensorFlow {tf.__version__}: {error}"
        ) from error
    if not hasattr(ops, "tf_plr_linear_recurrence"):  # The module lacks ops registered before.
        raise ImportError(
            f"another copy of tf_plr's native library than {OPS} is loaded in this process: start "
            "a new process, with only one tf_plr on its path"
        )
    return ops


@functools.cache
def warn_of_unused_gpus() -> None:
    """Warns once if there is a GPU that the ops have no code for. Looks for GPUs."""
    if information()["cuda"] is None and tf.config.get_visible_devices("GPU"):
        warnings.warn(
            "there is a GPU, but tf_plr was built without GPU code, so its ops run on the CPU. "
            f"{REBUILD} There, set TF_PLR_CUDA=1, which needs nvcc. To hide the GPU, set "
            "CUDA_VISIBLE_DEVICES=-1.",
            RuntimeWarning,
            stacklevel=5,
        )


def _left_out(description: Path) -> str:
    """The environment variable that left a library out of the installation, or ""."""
    try:
        return str(json.loads(description.read_text())["left_out"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
