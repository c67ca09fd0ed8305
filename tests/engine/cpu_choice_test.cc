// SPDX-License-Identifier: MIT
// Where the CPU engine cuts the steps, and where it stores past the caches. Results do not show
// this, so the engine runs on elements that count how they are read and written. test_cpu_engine.py
// builds and runs it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>

#include "cc/engine/cpu/engine.h"

namespace tf_plr {
namespace cpu {

// A float whose loads and streaming stores are counted.
struct Counted {
  float value;

  Counted(float value = 0) : value(value) {}
  operator float() const { return value; }
};

int64_t loaded, streamed;  // Elements; read and written on one thread only.

template <>
struct AccumulatorOf<Counted> {
  using type = float;
};
template <int kLanes>
struct Memory<float, Counted, kLanes> {
  using Streamed = Vector<float, kLanes>;

  TF_PLR_INLINE static Streamed Load(const Counted* from) {
    loaded += kLanes;
    Streamed v;
    std::memcpy(&v, from, sizeof(v));
    return v;
  }
  TF_PLR_INLINE static void Store(Streamed v, Counted* to) {
    std::memcpy(static_cast<void*>(to), &v, sizeof(v));
  }
  TF_PLR_INLINE static void Stream(Streamed v, Counted* to) {
    streamed += kLanes;
    Store(v, to);
  }
};

namespace {

int failures = 0;

struct Result {
  double passes;  // How often an input is read, about.
  int64_t streamed;
};

// Runs on a pool of `threads` threads that are busy elsewhere. `shift` is the offset of the output,
// in elements.
Result Run(const Problem& problem, Algorithm algorithm, int threads, bool in_place = false,
           int shift = 0) {
  const Buffer<Counted> decays(problem.size()), impulses(problem.size()),
      states(problem.size() + shift);
  std::fill_n(decays.data(), decays.size(), Counted(0.5f));
  std::fill_n(impulses.data(), impulses.size(), Counted(1));
  Counted* const out = in_place ? impulses.data() : states.data() + shift;
  loaded = streamed = 0;
  const Arrays<RecurrenceCell, Counted> arrays{
      {decays.data(), impulses.data()}, {out}, nullptr, nullptr, nullptr};
  const Workers workers(threads, [](std::function<void()>) {});
  if (Run(problem, arrays, algorithm, workers) != nullptr) std::abort();
  return {static_cast<double>(loaded) / (2 * problem.size()), streamed};
}

void Expect(bool right, const char* why, double found) {
  if (right) return;
  std::printf("%s: not so, but %g\n", why, found);
  ++failures;
}

struct Choice {
  Problem problem;
  int threads;
  bool cut;  // Then inputs are read once more.
  const char* why;
};

// A block of columns has rows of 2 KiB: 512 floats. A thread has 64 KiB: 5,461 steps.
const Choice kChoices[] = {
    {{1, 65536, 16, false}, 3, true, "three threads for a block"},
    {{1, 65536, 16, false}, 2, false, "two do not pay"},
    {{1, 65536, 16, true}, 3, true, "three in reverse"},
    {{1, 10000, 1, false}, 64, false, "too little for a second thread"},
    {{1, 10923, 1, false}, 64, true, "just enough for a third"},
    {{2, 65536, 16, false}, 5, false, "five threads for two sequences"},
    {{2, 65536, 16, false}, 6, true, "six for two sequences"},
    {{1, 2048, 512, false}, 3, true, "long rows, but one block"},
    {{1, 2048, 528, false}, 5, false, "two blocks"},
    {{1, 2048, 528, false}, 6, true, "two blocks, six threads"},
};

void TestAll() {
  for (const Choice& choice : kChoices) {
    const double passes = Run(choice.problem, Algorithm::kAuto, choice.threads).passes;
    Expect(choice.cut ? passes > 1.9 : passes < 1.1, choice.why, passes);
  }

  // 32 MiB. If the processor can stream, all elements are streamed out.
  const Problem large{1, 2048, 4096, false};
  const int64_t all = kCanStream<Vector<float, 4>> ? large.size() : 0;
  for (Algorithm algorithm : {Algorithm::kSerial, Algorithm::kParallel}) {
    for (bool reverse : {false, true}) {
      const Problem problem{1, 2048, 4096, reverse};
      const int64_t found = Run(problem, algorithm, 1).streamed;
      Expect(found == all, "large outputs are streamed out", found);
    }
    const auto none = [&](const char* why, const Result& result) {
      Expect(result.streamed == 0, why, result.streamed);
    };
    none("what is a row less is not", Run({1, 2047, 4096, false}, algorithm, 1));
    none("what is overwritten is not", Run(large, algorithm, 1, true));
    none("what is not aligned is not", Run(large, algorithm, 1, false, 1));
  }
}

}  // namespace
}  // namespace cpu
}  // namespace tf_plr

int main() {
  tf_plr::cpu::TestAll();
  std::printf("%d failures\n", tf_plr::cpu::failures);
  return tf_plr::cpu::failures != 0;
}
