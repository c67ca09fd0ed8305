// SPDX-License-Identifier: MIT
// A target for libFuzzer: bytes become a problem, which the CPU engine must compute as a plain loop
// does, and another of any size, which the GPU engine must be able to plan. Sanitizers watch.
// Build and run: make fuzz-engine; without clang, random bytes instead: make fuzz-engine CXX=g++
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "cc/engine/cpu/run.h"
#include "cc/engine/gpu/choice.h"

using namespace tf_plr;

namespace {

// The bytes of an input, one after the other; then zeros.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  template <typename T>
  T Next() {
    T value{};
    const size_t size = std::min(left_, sizeof(T));
    std::memcpy(&value, data_, size);
    data_ += size;
    left_ -= size;
    return value;
  }
  // In [least, most].
  template <typename T>
  int64_t In(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(Next<T>() % static_cast<uint64_t>(most - least + 1));
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

void Require(bool holds, const char* what, const Problem& p) {
  if (holds) return;
  std::printf("%s: %lld x %lld x %lld, reverse %d\n", what, (long long)p.outer, (long long)p.steps,
              (long long)p.inner, p.reverse);
  std::abort();
}

Algorithm AlgorithmOf(Bytes& bytes) { return static_cast<Algorithm>(bytes.In<uint8_t>(0, 2)); }

// An array in an allocation of its own that begins at any element, so that AddressSanitizer finds
// accesses past its end.
class Array {
 public:
  Array(int64_t size, int64_t shift) : values_(size + shift), shift_(shift) {}
  float* data() { return values_.data() + shift_; }

 private:
  std::vector<float> values_;
  int64_t shift_;
};

void TestCpu(Bytes& bytes) {
  const Problem p{bytes.In<uint8_t>(0, 4), bytes.In<uint16_t>(0, 700), bytes.In<uint8_t>(0, 70),
                  bytes.In<uint8_t>(0, 1) == 1};
  const Algorithm algorithm = AlgorithmOf(bytes);
  const bool in_place = bytes.In<uint8_t>(0, 1), with_initial = bytes.In<uint8_t>(0, 1);
  const int threads = static_cast<int>(bytes.In<uint8_t>(0, 3));
  const Workers workers(threads, [](std::function<void()> work) { std::thread(work).detach(); });
  Array decays(p.size(), bytes.In<uint8_t>(0, 7)), impulses(p.size(), bytes.In<uint8_t>(0, 7));
  Array apart(p.size(), bytes.In<uint8_t>(0, 7)), initial(p.columns(), 0), last(p.columns(), 0);
  std::mt19937 random(bytes.Next<uint32_t>());
  const float kDecays[] = {0, 1, -1, 0.5f, -0.25f, 1e-30f, bytes.In<uint8_t>(0, 200) / 200.0f};
  for (int64_t i = 0; i < p.size(); ++i) {
    decays.data()[i] = kDecays[random() % 7];
    impulses.data()[i] = static_cast<int>(random() % 9) - 4;
  }
  for (int64_t i = 0; i < p.columns(); ++i) initial.data()[i] = static_cast<int>(random() % 9) - 4;

  std::vector<double> expected(p.size()), expected_last(p.columns());
  std::vector<double> bound(p.size()), last_bound(p.columns());  // Of rounding.
  for (int64_t column = 0; column < p.columns(); ++column) {
    const int64_t base = column / p.inner * p.steps * p.inner + column % p.inner;
    double state = with_initial ? initial.data()[column] : 0, largest = std::abs(state);
    for (int64_t t = 0; t < p.steps; ++t) {
      const int64_t at = base + (p.reverse ? p.steps - 1 - t : t) * p.inner;
      state = decays.data()[at] * state + impulses.data()[at];
      largest += std::abs(impulses.data()[at]);
      expected[at] = state;
      bound[at] = 4 * (t + 2) * largest / (1 << 24);
    }
    expected_last[column] = state;
    last_bound[column] = 4 * (p.steps + 2) * largest / (1 << 24);
  }
  float* const states = in_place ? impulses.data() : apart.data();
  const Arrays<RecurrenceCell, float> arrays{{decays.data(), impulses.data()},
                                             {states},
                                             with_initial ? initial.data() : nullptr,
                                             last.data(),
                                             nullptr};
  Require(cpu::Run(p, arrays, algorithm, workers) == nullptr, "an error", p);
  for (int64_t i = 0; i < p.size(); ++i) {
    Require(std::abs(states[i] - expected[i]) <= bound[i], "a state is off", p);
  }
  for (int64_t i = 0; i < p.columns(); ++i) {
    Require(std::abs(last.data()[i] - expected_last[i]) <= last_bound[i], "a last state is off", p);
  }
}

void TestGpuPlan(Bytes& bytes) {
  // Of at most 2^60 elements, each size up to all of them.
  int64_t left = int64_t{1} << 60, sizes[3];
  for (int64_t& size : sizes) {
    size = bytes.In<uint64_t>(1, left) >> bytes.In<uint8_t>(0, 60);
    size = std::max<int64_t>(1, size);
    left /= size;
  }
  std::swap(sizes[0], sizes[bytes.In<uint8_t>(0, 2)]);
  const Problem p{sizes[0], sizes[1], sizes[2], bytes.In<uint8_t>(0, 1) == 1};
  const gpu::DeviceLimits limits{static_cast<int>(bytes.In<uint8_t>(1, 200)), 163 << 10,
                                 bytes.In<uint8_t>(0, 1) == 1};
  const gpu::RegisterTileShape tile{32 << bytes.In<uint8_t>(0, 1), 64 << bytes.In<uint8_t>(0, 2),
                                    bytes.In<uint8_t>(1, 4), bytes.In<uint8_t>(0, 1) * 16};
  const gpu::CellTraits cell{static_cast<int>(bytes.In<uint8_t>(2, 5)),
                             2 << bytes.In<uint8_t>(0, 2), bytes.In<uint8_t>(0, 1) == 1,
                             bytes.In<uint8_t>(0, 1) == 1};
  const gpu::RegisterTilePartition cut(p, tile, limits);
  Require((cut.column_tiles - 1) * tile.columns < p.inner, "a tile without columns", p);
  Require((cut.chain_tiles - 1) * tile.rows < p.steps, "a tile without steps", p);
  Require(cut.chains == p.outer * cut.column_tiles, "chains", p);
  if (cut.suits_clusters) Require(cut.chain_tiles <= tile.most_of_cluster, "a cluster", p);
  const Algorithm algorithm = AlgorithmOf(bytes);
  const gpu::Path path = gpu::Choose(p, cell, cut, bytes.In<uint8_t>(0, 1) == 1, algorithm, limits);
  const bool spread = path == gpu::Path::kSpreadSharedTiles ||
                      (path == gpu::Path::kRegisterTiles && cut.chain_tiles > 1);
  Require(!(spread && algorithm == Algorithm::kSerial), "spread, but serial", p);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes bytes(data, size);
  TestGpuPlan(bytes);
  TestCpu(bytes);
  return 0;
}

#ifdef TF_PLR_RANDOM_BYTES
int main(int argc, char** argv) {
  const int inputs = argc > 1 ? std::atoi(argv[1]) : 1000;
  for (int i = 0; i < inputs; ++i) {
    std::mt19937 random(i);
    uint8_t data[128];
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
    LLVMFuzzerTestOneInput(data, sizeof(data));
  }
  std::printf("%d inputs: no failure\n", inputs);
}
#endif
