# SPDX-License-Identifier: MIT
"""Builds the two native libraries in tf_plr/_native.

The engine, with its XLA handlers, runs in the TensorFlow release that it was built with, and in
later ones. The ops run in that release only, and link the engine.

pyproject.toml holds everything static. This file handles what depends on the machine: TensorFlow's
compile flags, whether there is a CUDA compiler, and the TensorFlow release that the wheel is for.

Environment variables:
  TF_PLR_NATIVE               0: install Python only, without a compiler and for any platform.
                              Then only algorithm="composed" works.
  TF_PLR_CUDA                 0: build without GPU code. 1: build with it, and fail if there is no
                              nvcc. Unset: build with it if nvcc is found.
  TF_PLR_CUDA_ARCHITECTURES   GPU architectures, such as "80 90". PTX of the last one is added.
                              Unset: those of this machine's GPUs, or else "80 90 100 120".
  CXX, CXXFLAGS               The C++ compiler, g++ by default, and more flags for it.
  CUDA_HOME                   Where to look for bin/nvcc before PATH.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NATIVE = os.environ.get("TF_PLR_NATIVE", "1") != "0"
if os.environ.get("TF_PLR_NATIVE", "1") not in ("0", "1"):
    raise SystemExit(f'TF_PLR_NATIVE must be "0" or "1", but is {os.environ["TF_PLR_NATIVE"]!r}')
CXX = os.environ.get("CXX", "g++")
CXXFLAGS = shlex.split(os.environ.get("CXXFLAGS", ""))
NATIVE_PACKAGE = "tf_plr._native"
ENGINE, OPS = "tf_plr_engine", "tf_plr_ops"  # The libraries' names.
EXPORTS = {ENGINE: "cc/exports.map", OPS: "cc/tensorflow/exports.map"}

TF_MINOR = "2.21"  # For isolated builds. Without isolation, the installed TensorFlow is used.
TF_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly", "tf-nightly-cpu")
XLA_HEADER = "xla/ffi/api/ffi.h"
OLDEST_CUDA = (12, 3)  # The first whose assembler knows 128-bit words (PTX 8.3).
COMPRESSING_CUDA = (12, 8)  # The first whose compiler takes --compress-mode.
ALL_ARCHITECTURES = "80 90 100 120"
OLDEST_ARCHITECTURE = 80  # The first that copies to shared memory asynchronously.


@functools.cache
def tensorflow():
    """The TensorFlow to build for. Not installed yet when pip asks for the build requirements."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    return tf


def minor_of(version):
    return ".".join(version.split(".")[:2])


def check_installed_tensorflow():
    """Refuses to build for one TensorFlow and install beside another.

    pip installs a TensorFlow of its own for the build, and a user who has another one would not
    notice. (Other front ends build in a separate environment, where this check finds no other one.)
    """
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for package in importlib.metadata.distributions(path=list(dict.fromkeys(paths))):
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"] or "").lower()
        ours = tensorflow().__version__
        if name in TF_PACKAGES and minor_of(package.version) != minor_of(ours):
            raise SystemExit(
                f"tf_plr: {name} {package.version} is installed here, but this build took "
                f"TensorFlow {ours}, and a library built for one does not run in the other. "
                f"Either build for what is installed: `pip install 'setuptools>=77'`, then `pip "
                f"install --no-build-isolation .`; or first `pip install '{name}=="
                f"{minor_of(ours)}.*'`."
            )


def find_nvcc():
    wanted = os.environ.get("TF_PLR_CUDA", "")
    if wanted not in ("", "0", "1"):
        raise SystemExit(f'tf_plr: TF_PLR_CUDA must be "0" or "1", but is {wanted!r}')
    if wanted == "0":
        return None
    home = os.environ.get("CUDA_HOME")
    nvcc = Path(home, "bin", "nvcc") if home else None
    found = str(nvcc) if nvcc and nvcc.exists() else shutil.which("nvcc")
    if wanted and not found:
        raise SystemExit(
            "tf_plr: TF_PLR_CUDA=1 asks for GPU code, but there is no nvcc in CUDA_HOME or PATH"
        )
    return found


def version_of(compiler):
    """What a compiler prints for --version."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"tf_plr: the compiler {compiler} does not run: {error}") from None
    return done.stdout


def as_numbers(release):
    return tuple(map(int, release.split(".")))


def cuda_release_of(nvcc):
    """The release of a CUDA compiler; SystemExit if it is too old for the kernels."""
    release = re.search(r"release ([\d.]+)", version_of(nvcc)).group(1)
    if as_numbers(release) < OLDEST_CUDA:
        raise SystemExit(
            f"tf_plr: {nvcc} is of CUDA {release}, but the GPU kernels need CUDA "
            f"{'.'.join(map(str, OLDEST_CUDA))} or later. Point CUDA_HOME to a later one, or leave "
            "the GPU out with TF_PLR_CUDA=0."
        )
    return release


def architectures_here():
    """The architectures of the GPUs of this machine, ascending."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted({int(line.replace(".", "")) for line in re.findall(r"\d+\.\d", done.stdout)})


@functools.cache
def cuda_architectures(nvcc):
    done = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True)
    known = re.findall(r"compute_(\d+)", done.stdout)
    text = os.environ.get("TF_PLR_CUDA_ARCHITECTURES")
    if not text:
        here = [str(a) for a in architectures_here() if a >= OLDEST_ARCHITECTURE]
        # The PTX of the last one runs on GPUs that are newer than the compiler.
        text = " ".join(here) if here and set(here) <= set(known) else ALL_ARCHITECTURES
    wanted = text.split()
    if not wanted or not all(a.isdigit() for a in wanted):
        raise SystemExit(
            "tf_plr: TF_PLR_CUDA_ARCHITECTURES must be numbers with spaces between them, such as "
            f'"80 90", but is {text!r}'
        )
    unknown = [a for a in wanted if a not in known]
    if unknown:
        print(
            f"tf_plr: {nvcc} of CUDA {cuda_release_of(nvcc)} does not know the GPU architectures "
            f"{', '.join(unknown)}: there will be no code for them",
            file=sys.stderr,
            flush=True,
        )
    architectures = [a for a in wanted if a in known]
    if not architectures:
        raise SystemExit(
            f"tf_plr: {nvcc} knows none of the GPU architectures {', '.join(wanted)}. Install a "
            "later CUDA, or leave the GPU out with TF_PLR_CUDA=0."
        )
    return architectures


def static_runtime_of(nvcc):
    """The path of CUDA's static runtime library."""
    command = [nvcc, "--dryrun", "-cudart", "static", "-o", "a.out", "a.o"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    for folder in re.findall(r"-L([^\s\"]+)", said):
        if (library := Path(folder, "libcudart_static.a")).exists():
            return str(library.resolve())
    raise SystemExit(f"tf_plr: there is no libcudart_static.a where {nvcc} looks for it")


def cxx_command(nvcc):
    tf = tensorflow()
    include = tf.sysconfig.get_include()
    if not Path(include, XLA_HEADER).exists():
        raise SystemExit(
            f"tf_plr: TensorFlow {tf.__version__} came without {XLA_HEADER}, which the XLA kernels "
            "need. TensorFlow 2.20 and later have it."
        )
    flags = [f for f in tf.sysconfig.get_compile_flags() if not f.startswith("-I")]
    # tf2xla's headers include files of the last two.
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
    architectures = cuda_architectures(nvcc)
    last = architectures[-1]
    flags = ["-ccbin", CXX, "-std=c++17", "-O3", "-DNDEBUG", "-I."]
    flags += ["-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall"]
    flags += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    flags.append(f"-gencode=arch=compute_{last},code=compute_{last}")
    if as_numbers(cuda_release_of(nvcc)) >= COMPRESSING_CUDA:
        flags.append("--compress-mode=size")
    return [nvcc, *flags]


def link_flags(name):
    """Linker flags for a library. The ops find the engine in their own folder, $ORIGIN."""
    flags = [f"-L{tensorflow().sysconfig.get_lib()}", "-l:libtensorflow_framework.so.2"]
    if name == OPS:
        flags += ["-l:libtensorflow_cc.so.2", "-Wl,-rpath,$ORIGIN"]  # The library holds tf2xla.
    # Symbols are stripped here, because the digest below must be that of the library as it is used.
    return [*flags, "-s", f"-Wl,-soname,{name}.so", f"-Wl,--version-script={EXPORTS[name]}"]


def link_command(nvcc, objects, library):
    name = library.stem
    before = []
    if name == OPS:
        before = [str(library.with_name(f"{ENGINE}.so"))]
    elif nvcc:
        # CUDA's runtime must precede TensorFlow's library. Otherwise, the linker takes the runtime
        # that TensorFlow's GPU wheel exports, and the library does not load with tensorflow-cpu.
        before = [static_runtime_of(nvcc), "-lrt", "-lpthread", "-ldl"]
    command = [CXX, *CXXFLAGS, "-shared", *objects, "-o", str(library), *before]
    return [*command, *link_flags(name)]


def undefined_cuda_symbols(library):
    """The symbols of CUDA's runtime that the library needs but does not contain."""
    command = ["nm", "-D", "--undefined-only", str(library)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split() if re.match(r"_?_?cuda[A-Z]", name)]


def version():
    text = (ROOT / "tf_plr" / "version.py").read_text()
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def description(nvcc):
    """The fields of a library's JSON file, except the checksum."""
    return {
        "tf_plr": version(),
        "tensorflow": tensorflow().__version__,
        "machine": os.uname().machine,
        "compiler": version_of(CXX).splitlines()[0],
        "cuda": cuda_release_of(nvcc) if nvcc else None,
        "cuda_architectures": cuda_architectures(nvcc) if nvcc else [],
    }


class Compiler:
    """One compiler with its flags. It compiles a source only if something has changed."""

    def __init__(self, command, version, build_dir):
        self.command = command
        self.version = version
        self.build_dir = build_dir

    def compile(self, source, define=None):
        """Returns the object's path, and whether it is new. `define` is "MACRO=value" or None."""
        name = re.sub(r"\W", "_", f"{source}_{define}" if define else source)
        obj = self.build_dir / f"{name}.o"
        depfile, stamp = obj.with_suffix(".d"), obj.with_suffix(".cmd")
        # An isolated build has a new include path each time, so the key holds the release instead.
        tf = tensorflow()
        key = " ".join(self.command).replace(tf.sysconfig.get_include(), tf.__version__)
        key = hashlib.sha256((self.version + key).encode()).hexdigest()
        if self._is_fresh(obj, depfile) and stamp.exists() and stamp.read_text() == key:
            return str(obj), False
        command = [*self.command, *([f"-D{define}"] if define else [])]
        command += ["-MMD", "-MF", str(depfile), "-c", source, "-o", str(obj)]
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
        # -MMD does not list -isystem headers. Other files outside the tree belong to a compiler.
        own = [path for path in paths if path.is_relative_to(ROOT)]
        return all(p.exists() and p.stat().st_mtime <= obj.stat().st_mtime for p in own)


class BuildNative(build_ext):
    """Compiles the sources in parallel, with nvcc where it is found, and links each library."""

    def get_ext_filename(self, fullname):
        return fullname.replace(".", "/") + ".so"

    def run(self):
        check_installed_tensorflow()
        super().run()

    def build_extension(self, ext):
        build_dir = Path(self.build_temp).resolve()
        build_dir.mkdir(parents=True, exist_ok=True)
        nvcc = find_nvcc()
        info = description(nvcc)
        host = Compiler(cxx_command(nvcc), version_of(CXX), build_dir)
        devices, kernels = "CPUs", None
        if nvcc:
            kernels = Compiler(nvcc_command(nvcc), version_of(nvcc) + version_of(CXX), build_dir)
            architectures = " ".join(f"sm_{a}" for a in info["cuda_architectures"])
            devices = f"CPUs and GPUs (CUDA {info['cuda']}, {architectures})"
        print(
            f"tf_plr: building {ext.name} for {devices}, TensorFlow {info['tensorflow']}",
            flush=True,
        )

        jobs = [
            (kernels if source.endswith(".cu") else host, source, define)
            for source in ext.sources
            if nvcc or not source.endswith(".cu")
            for define in (ELEMENTS if "instantiate" in source else [None])
        ]
        # Slowest first: CUDA, XLA, then the rest.
        jobs.sort(key=lambda job: (not job[1].endswith(".cu"), "xla" not in job[1]))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = list(pool.map(lambda job: job[0].compile(*job[1:]), jobs))
        objects = [obj for obj, _ in compiled]

        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        library.parent.mkdir(parents=True, exist_ok=True)
        inputs = [*objects, EXPORTS[library.stem]]
        if library.stem == OPS:
            inputs.append(library.with_name(f"{ENGINE}.so"))
        linked = library.exists() and all(
            Path(part).stat().st_mtime <= library.stat().st_mtime for part in inputs
        )
        if not linked or any(changed for _, changed in compiled):
            self._link(objects, library, nvcc)
        info["sha256"] = hashlib.sha256(library.read_bytes()).hexdigest()
        library.with_suffix(".json").write_text(json.dumps(info, indent=2) + "\n")

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name)).with_suffix(".json")
            self.copy_file(str(built), str(ROOT / Path(*ext.name.split(".")).with_suffix(".json")))

    @staticmethod
    def _link(objects, library, nvcc):
        command = link_command(nvcc, objects, library)
        print(shlex.join(command), flush=True)
        subprocess.run(command, check=True, cwd=ROOT)
        if found := undefined_cuda_symbols(library):
            raise SystemExit(f"tf_plr: {library} must contain CUDA's runtime, but lacks {found}")


class PurePython(build_py):
    """Leaves the native libraries out, and records that in the package."""

    def run(self):
        super().run()
        for name in (ENGINE, OPS):
            path = Path(self.build_lib, *NATIVE_PACKAGE.split("."), name)
            path.with_suffix(".so").unlink(missing_ok=True)  # An earlier build may have left it.
            path.with_suffix(".json").write_text('{"left_out": "TF_PLR_NATIVE=0"}\n')


class RefuseWithoutTensorFlow(build_py):
    """Fails with an explanation: without isolation, pip does not install what the build needs."""

    def run(self):
        raise SystemExit(
            f"tf_plr: building needs TensorFlow, but none is installed: install {TF_MINOR}, or the "
            "release to build for, or set TF_PLR_NATIVE=0 to install the Python code only"
        )


class PlatformWheel(bdist_wheel):
    """The libraries do not use Python's C API, so one wheel per platform serves every Python 3."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


# The engine's templates are compiled separately for each element type, in parallel.
ELEMENTS = [f"TF_PLR_GATED_ELEMENT={name}" for name in ("Half", "BFloat16", "float")]
ELEMENTS += [f"TF_PLR_ELEMENT={name}" for name in ("double", "Complex64", "Complex128")]


def sources(name):
    """The source files of a library."""
    if name == OPS:
        paths = [*ROOT.glob("cc/tensorflow/*.cc"), ROOT / "cc" / "older_systems.cc"]
    else:
        folders = ("", "engine/cpu/", "engine/gpu/", "calls/", "xla/")
        paths = [path for folder in folders for path in ROOT.glob(f"cc/{folder}*.c[cu]")]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def requirements(minor):
    """The extras. pip would add a required TensorFlow beside tensorflow-cpu, so it is an extra."""
    wanted = f"=={minor}.*" if NATIVE else f">={TF_MINOR}"
    return {
        "tf": [f"tensorflow{wanted}"],
        "tf-cpu": [f"tensorflow-cpu{wanted}"],
        "tf-cuda": [f"tensorflow[and-cuda]{wanted}"],
        "test": ["pytest>=8", "pytest-xdist>=3", "hypothesis>=6"],
        "examples": ["matplotlib>=3.8", "pandas>=2", "scipy>=1.11"],
    }


def native_options():
    if importlib.util.find_spec("tensorflow") is None:  # pip asks what to install for the build.
        return {
            "setup_requires": [f"tensorflow=={TF_MINOR}.*"],
            "cmdclass": {"build_py": RefuseWithoutTensorFlow},
            "extras_require": {},
        }
    return {
        "ext_modules": [
            Extension(f"{NATIVE_PACKAGE}.{name}", sources(name)) for name in (ENGINE, OPS)
        ],
        "cmdclass": {"build_ext": BuildNative, "bdist_wheel": PlatformWheel},
        "extras_require": requirements(minor_of(tensorflow().__version__)),
    }


def pure_options():
    return {"cmdclass": {"build_py": PurePython}, "extras_require": requirements(TF_MINOR)}


if __name__ == "__main__":
    setup(
        **(native_options() if NATIVE else pure_options()),
    )
