# SPDX-License-Identifier: MIT
"""Builds the native libraries beside the Python sources: tf_plr/_native.so, which is bound to this
TensorFlow's release, and tf_plr/_portable.so, which later ones load too.

pyproject.toml holds everything static; here is what depends on the machine: TensorFlow's compile
flags, whether there is a CUDA compiler, and the TensorFlow release that the wheel is for.

Environment variables:
  TF_PLR_CUDA                 0: build without GPU code even where nvcc is found.
  TF_PLR_CUDA_ARCHITECTURES   GPU architectures, "80 90" by default; PTX of the last is added.
                              Not a list of numbers: an error.
  CXX, CXXFLAGS               The C++ compiler, g++ by default, and more flags for it.
  CUDA_HOME                   Where to look for bin/nvcc before PATH.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CXX = os.environ.get("CXX", "g++")
CXXFLAGS = shlex.split(os.environ.get("CXXFLAGS", ""))
NO_EXPORTS = ROOT / "cc" / "no_exports.map"
PORTABLE = ROOT / "cc" / "portable"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf  # noqa: E402 (the log level must be set before)

TF_MINOR = ".".join(tf.__version__.split(".")[:2])
XLA_HEADER = "xla/ffi/api/ffi.h"
OLDEST_CUDA = (12, 3)  # The first whose assembler knows 128-bit words (PTX 8.3).
COMPRESSING_CUDA = (12, 8)  # The first whose compiler takes --compress-mode.


def find_nvcc():
    if os.environ.get("TF_PLR_CUDA", "1") == "0":
        return None
    home = os.environ.get("CUDA_HOME")
    if home and (nvcc := Path(home, "bin", "nvcc")).exists():
        return str(nvcc)
    return shutil.which("nvcc")


def version_of(compiler):
    """What a compiler says of itself."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"tf_plr: the compiler {compiler} does not run: {error}") from None
    return done.stdout


def numbers_of(release):
    return tuple(map(int, release.split(".")))


def cuda_release_of(nvcc):
    """The release of a CUDA compiler; SystemExit if it is too old for the kernels."""
    release = re.search(r"release ([\d.]+)", version_of(nvcc)).group(1)
    if numbers_of(release) < OLDEST_CUDA:
        raise SystemExit(
            f"tf_plr: {nvcc} is of CUDA {release}, but the GPU kernels need CUDA "
            f"{'.'.join(map(str, OLDEST_CUDA))} or later. Point CUDA_HOME to a later one, or leave "
            "the GPU out with TF_PLR_CUDA=0."
        )
    return release


def cuda_architectures():
    text = os.environ.get("TF_PLR_CUDA_ARCHITECTURES", "80 90")
    architectures = text.split()
    if not architectures or not all(a.isdigit() for a in architectures):
        raise SystemExit(
            "tf_plr: TF_PLR_CUDA_ARCHITECTURES must be numbers with spaces between them, such as "
            f'"80 90", but is {text!r}'
        )
    return architectures


def cxx_command(nvcc):
    include = tf.sysconfig.get_include()
    if not Path(include, XLA_HEADER).exists():
        raise SystemExit(
            f"tf_plr: TensorFlow {tf.__version__} came without {XLA_HEADER}, which the XLA kernels "
            "need. TensorFlow 2.20 and later have it."
        )
    flags = [f for f in tf.sysconfig.get_compile_flags() if not f.startswith("-I")]
    # The last two: what tf2xla's headers include.
    for path in ("", "external/highwayhash", "external/farmhash_archive/src"):
        flags += ["-isystem", str(Path(include, path))]
    flags += ["-I.", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden"]
    flags += ["-Wall", "-Wextra", "-Wno-psabi"]
    if os.uname().machine == "x86_64":
        flags.append("-march=x86-64-v2")
    if nvcc:
        flags.append("-DTF_PLR_CUDA")
    return [CXX, *flags, *CXXFLAGS]


def nvcc_command(nvcc):
    architectures = cuda_architectures()
    last = architectures[-1]
    flags = ["-ccbin", CXX, "-std=c++17", "-O3", "-DNDEBUG", "-I.", "-cudart", "static"]
    flags += ["-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall"]
    flags += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    flags.append(f"-gencode=arch=compute_{last},code=compute_{last}")
    if numbers_of(cuda_release_of(nvcc)) >= COMPRESSING_CUDA:
        flags.append("--compress-mode=size")
    return [nvcc, *flags]


def link_flags(exports=NO_EXPORTS):
    libraries = ["-l:libtensorflow_framework.so.2"]
    if exports == NO_EXPORTS:
        libraries.append("-l:libtensorflow_cc.so.2")  # Of tf2xla.
    return [f"-L{tf.sysconfig.get_lib()}", *libraries, "-Xlinker", f"--version-script={exports}"]


def description(nvcc):
    """What the library says of itself, but for the checksum."""
    return {
        "tensorflow": tf.__version__,
        "machine": os.uname().machine,
        "compiler": version_of(CXX).splitlines()[0],
        "cuda": cuda_release_of(nvcc) if nvcc else None,
        "cuda_architectures": cuda_architectures() if nvcc else [],
    }


class Compiler:
    """One compiler and its flags: turns a source into an object, if anything changed."""

    def __init__(self, command, version, build_dir):
        self.command = command
        self.version = version
        self.build_dir = build_dir

    def compile(self, source):
        obj = self.build_dir / (source.replace("/", "_") + ".o")
        depfile, stamp = obj.with_suffix(".d"), obj.with_suffix(".cmd")
        # The include path of an isolated build is new every time; its TensorFlow's release is not.
        key = " ".join(self.command).replace(tf.sysconfig.get_include(), tf.__version__)
        key = hashlib.sha256((self.version + key).encode()).hexdigest()
        if self._is_fresh(obj, depfile) and stamp.exists() and stamp.read_text() == key:
            return str(obj), False
        command = [*self.command, "-MMD", "-MF", str(depfile), "-c", source, "-o", str(obj)]
        print(shlex.join(command), flush=True)
        subprocess.run(command, check=True, cwd=ROOT)
        stamp.write_text(key)
        return str(obj), True

    @staticmethod
    def _is_fresh(obj, depfile):
        if not (obj.exists() and depfile.exists()):
            return False
        text = depfile.read_text().replace("\\\n", " ").split(":", 1)[1]
        paths = [ROOT / path for path in shlex.split(text)]
        # -isystem headers are not listed; what else lies outside the tree belongs to a compiler.
        own = [path for path in paths if path.is_relative_to(ROOT)]
        return all(p.exists() and p.stat().st_mtime <= obj.stat().st_mtime for p in own)


class BuildNative(build_ext):
    """Compiles the sources, those for nvcc where it is found, in parallel, and links each library.

    Both libraries take the same objects of the engines.
    """

    def get_ext_filename(self, fullname):
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext):
        build_dir = Path(self.build_temp).resolve()
        build_dir.mkdir(parents=True, exist_ok=True)
        portable = ext.name == "tf_plr._portable"
        exports = PORTABLE / "exports.map" if portable else NO_EXPORTS
        nvcc = find_nvcc()
        info = description(nvcc)
        host = Compiler(cxx_command(nvcc), version_of(CXX), build_dir)
        jobs = [(host, source) for source in ext.sources]
        devices = "CPUs"
        if nvcc:
            device = Compiler(nvcc_command(nvcc), version_of(nvcc) + version_of(CXX), build_dir)
            kernels = PORTABLE_CUDA_SOURCES if portable else sources("cu")
            jobs += [(device, source) for source in kernels]
            architectures = " ".join(f"sm_{a}" for a in info["cuda_architectures"])
            devices = f"CPUs and GPUs (CUDA {info['cuda']}, {architectures})"
        print(f"tf_plr: building {ext.name} for {devices}, TensorFlow {tf.__version__}", flush=True)

        # Slowest first: CUDA, XLA, then the rest.
        jobs.sort(key=lambda job: (not job[1].endswith(".cu"), "/xla/" not in job[1]))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = list(pool.map(lambda job: job[0].compile(job[1]), jobs))
        objects = [obj for obj, _ in compiled]

        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        library.parent.mkdir(parents=True, exist_ok=True)
        linked = library.exists() and all(
            Path(part).stat().st_mtime <= library.stat().st_mtime for part in [*objects, exports]
        )
        if not linked or any(changed for _, changed in compiled):
            self._link(objects, library, exports, nvcc)
        info["sha256"] = hashlib.sha256(library.read_bytes()).hexdigest()
        library.with_suffix(".json").write_text(json.dumps(info, indent=2) + "\n")

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name)).with_suffix(".json")
            self.copy_file(str(built), str(ROOT / Path(*ext.name.split(".")).with_suffix(".json")))

    @staticmethod
    def _link(objects, library, exports, nvcc):
        # nvcc knows where its runtime lies; linked statically, it needs no CUDA at run time.
        linker = [nvcc, "-ccbin", CXX, "-cudart", "static"] if nvcc else [CXX, *CXXFLAGS]
        command = [*linker, "-shared", *objects, "-o", str(library), *link_flags(exports)]
        print(shlex.join(command), flush=True)
        subprocess.run(command, check=True, cwd=ROOT)


class PlatformWheel(bdist_wheel):
    """The library does not touch Python's C API: one wheel a platform serves every Python 3."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


def sources(suffix):
    """Those of the native library."""
    paths = [path for path in ROOT.glob(f"cc/**/*.{suffix}") if path.parent != PORTABLE]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


PORTABLE_SOURCES = [
    "cc/portable/linear_recurrence.cc", "cc/older_systems.cc", "cc/engine/cpu/run_16bit.cc",
    "cc/engine/cpu/run_complex.cc", "cc/engine/cpu/run_real.cc",
]  # fmt: skip
PORTABLE_CUDA_SOURCES = [f"cc/engine/gpu/run_{types}.cu" for types in ("16bit", "complex", "real")]

if __name__ == "__main__":
    setup(
        ext_modules=[
            Extension("tf_plr._native", sources("cc")),
            Extension("tf_plr._portable", PORTABLE_SOURCES),
        ],
        cmdclass={"build_ext": BuildNative, "bdist_wheel": PlatformWheel},
        install_requires=["keras>=3.15", "numpy>=1.26", "typing-extensions>=4.4"],
        # The native library is bound to the ABI of the TensorFlow minor it was built with. Which of
        # its packages that is, is up to who installs it: a requirement would add a second one.
        extras_require={
            "tf": [f"tensorflow=={TF_MINOR}.*"],
            "tf-cpu": [f"tensorflow-cpu=={TF_MINOR}.*"],
            "tf-cuda": [f"tensorflow[and-cuda]=={TF_MINOR}.*"],
            "test": ["pytest>=8", "pytest-xdist>=3", "hypothesis>=6"],
            "examples": ["matplotlib>=3.8", "pandas>=2", "scipy>=1.11"],
        },
    )
