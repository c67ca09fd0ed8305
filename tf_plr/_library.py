# SPDX-License-Identifier: MIT
"""Loads the native library: on import, or else an error says why when an op is first needed.

The build record and the checksum work the same for the portable library.
"""

import functools
import hashlib
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import tensorflow as tf

PATH = Path(__file__).with_name("_native.so")
PORTABLE = PATH.with_name("_portable.so")
REBUILD = (
    "Rebuild tf_plr with the TensorFlow that is to run it: in its source tree, run `pip install "
    "--force-reinstall --no-deps --no-build-isolation .`."
)
REMEDY = (
    f'{REBUILD} Or pass algorithm="composed", which needs no library; for a cell on its own, call '
    "tf_plr.set_fused(False)."
)
# What the build says of the library, in a file beside it.
INFORMATION = ("tensorflow", "machine", "compiler", "cuda", "cuda_architectures", "sha256")


why_not_portable = ""  # Set by portable.py, which this file does not know.


class LibraryError(ImportError):
    """A library cannot be used, for a `reason`; the message also says the remedy."""

    def __init__(self, reason: str) -> None:
        self.reason = reason.rstrip(".")
        super().__init__(f"{self.reason}. {REMEDY}")


class WrongTensorFlowError(LibraryError):
    """The library was built for another TensorFlow than the one that is running: a `mismatch`."""

    def __init__(self, mismatch: str) -> None:
        self.mismatch = mismatch
        why = f". The portable library cannot take its place: {why_not_portable}"
        super().__init__(mismatch + (why if why_not_portable else ""))


def information(library: Path | None = None) -> dict[str, Any]:
    """What the build says of a library, of `PATH` by default.

    Raises:
        ImportError: the library or what is said of it is missing, or the latter is damaged.
    """
    library = library or PATH
    path = library.with_suffix(".json")
    if left_out := _left_out(path):
        raise LibraryError(
            f"this tf_plr was installed without {_named(library)}, as {left_out} was set: only "
            'algorithm="composed" works. Install it again without that variable'
        )
    says = f"{path}, which says what {_named(library)} was built for, is damaged"
    for needed in (library, path):
        if not needed.exists():
            raise LibraryError(f"{_named(library)} is not built: no {needed}")
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        missing = [name for name in INFORMATION if name not in found]
    except (ValueError, TypeError) as error:
        raise LibraryError(f"{says}: {error}") from error
    if missing:
        raise LibraryError(f"{says}: it does not say {', '.join(missing)}")
    return found


def check_whole(library: Path) -> None:
    """Raises a LibraryError if a library is for other processors, or not the one that was built."""
    built = information(library)
    if built["machine"] != platform.machine():
        raise LibraryError(
            f"{_named(library)} {library} was built for {built['machine']} processors, but this "
            f"one is {platform.machine()}"
        )
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    if digest != built["sha256"]:  # The loader would crash.
        raise LibraryError(
            f"{_named(library)} {library} is not whole, or not the one that was built: its SHA-256 "
            f"is {digest}, but should be {built['sha256']}"
        )


@functools.cache
def load_library() -> Any:
    """Registers the native ops with TensorFlow, and returns their module.

    `import tf_plr` registers them already, if it can; an error is raised here, or when an op is
    first needed. Warns once if there is a GPU that the library has no code for.

    Raises:
        ImportError: the library is missing or damaged, was built for another TensorFlow or another
            kind of processor, or cannot be loaded. The message says what was found, what was
            expected, and the remedy.
    """
    library = register()
    if information()["cuda"] is None and tf.config.get_visible_devices("GPU"):
        warnings.warn(
            "there is a GPU, but tf_plr was built without GPU code, so its ops run on the CPU. "
            f"{REBUILD} There, set TF_PLR_CUDA=1, which needs nvcc. To hide the GPU, set "
            "CUDA_VISIBLE_DEVICES=-1.",
            RuntimeWarning,
            stacklevel=3,
        )
    return library


@functools.cache
def register() -> Any:
    """As `load_library`, without the warning: `import tf_plr` must not look for GPUs."""
    built = information()
    built_for = built["tensorflow"]
    if _minor(built_for) != _minor(tf.__version__):
        raise WrongTensorFlowError(
            f"tf_plr's native library {PATH} was built for TensorFlow {built_for}, but TensorFlow "
            f"{tf.__version__} is running; their binary interfaces differ. Run TensorFlow "
            f"{'.'.join(_minor(built_for))}"
        )
    check_whole(PATH)
    try:
        library = tf.load_op_library(str(PATH))
    except (tf.errors.OpError, OSError) as error:
        raise LibraryError(
            f"tf_plr's native library {PATH}, built for TensorFlow {built_for}, could not be "
            f"loaded into TensorFlow {tf.__version__}: {error}"
        ) from error
    if not hasattr(library, "tf_plr_linear_recurrence"):  # What was registered before is left out.
        raise ImportError(
            f"another copy of tf_plr's native library than {PATH} is loaded in this process: start "
            "a new one, with one tf_plr on its path"
        )
    return library


def _left_out(description: Path) -> str:
    """Which environment variable left a library out of the installation, or ""."""
    try:
        return str(json.loads(description.read_text())["left_out"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _named(library: Path) -> str:
    return f"tf_plr's {'portable' if library == PORTABLE else 'native'} library"


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
