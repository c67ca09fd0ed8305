// SPDX-License-Identifier: MIT
// Which kernel each problem takes, as a table. test_gpu_engine.py builds and runs it.
#include <cstdio>

#include "cc/engine/gpu/choice.h"

using namespace tf_plr;
using namespace tf_plr::gpu;

namespace {

constexpr DeviceLimits kH100{132, 227 << 10, true}, kA100{108, 163 << 10, false};
// Register tiles of float32, forward and gradient.
constexpr CellTraits kForward{2, 4, false, false}, kGradient{3, 4, true, false};
constexpr RegisterTileShape kForwardTile{32, 256, 2, 16}, kGradientTile{32, 128, 2, 16};
// Of the gradient of a gated cell with an output gate, in bfloat16.
constexpr CellTraits kGatedGradient{5, 2, true, true};
constexpr RegisterTileShape kGatedGradientTile{64, 64, 2, 16};

struct Row {
  Problem problem;
  Algorithm algorithm;
  const char* why;
  Path on_h100, gradient_on_h100, on_a100;
};

constexpr Path kWalk = Path::kStreams, kTiles = Path::kRegisterTiles, kShort = Path::kSharedTiles,
               kSpread = Path::kSpreadSharedTiles;

const Row kTable[] = {
    {{1, 65536, 1, false}, Algorithm::kAuto, "time contiguous", kSpread, kSpread, kSpread},
    {{1, 65536, 1, false}, Algorithm::kSerial, "the same, serial", kShort, kShort, kShort},
    {{9, 50, 19, false}, Algorithm::kAuto, "short rows, one tile", kShort, kShort, kShort},
    {{1, 65536, 20, false}, Algorithm::kAuto, "rows that fill a warp well", kTiles, kTiles, kTiles},
    {{1, 65536, 20, false}, Algorithm::kSerial, "but not for streams", kShort, kShort, kShort},
    {{1, 256, 128, false}, Algorithm::kAuto, "one tile has all steps", kTiles, kTiles, kTiles},
    {{1, 4096, 128, false}, Algorithm::kAuto, "one cluster a chain", kTiles, kTiles, kTiles},
    {{1, 65536, 1024, false}, Algorithm::kAuto, "few chains, many steps", kTiles, kTiles, kTiles},
    {{32, 2048, 1024, false}, Algorithm::kAuto, "many chains", kWalk, kTiles, kWalk},
    {{32, 2048, 1024, false}, Algorithm::kParallel, "as asked", kTiles, kTiles, kTiles},
    {{32, 2048, 1024, false}, Algorithm::kSerial, "as asked", kWalk, kWalk, kWalk},
    {{256, 256, 1024, false}, Algorithm::kAuto, "many short chains", kWalk, kWalk, kWalk},
    {{4096, 16, 256, true}, Algorithm::kParallel, "nothing to spread", kWalk, kWalk, kWalk},
};

// Problems for which gated gradients differ. Only gradient_on_h100 is checked.
const Row kGatedTable[] = {
    {{32, 2048, 1024, false}, Algorithm::kAuto, "many chains", kWalk, kWalk, kWalk},
    {{16, 8192, 256, false}, Algorithm::kAuto, "few chains", kWalk, kTiles, kWalk},
    {{1, 256, 6, false}, Algorithm::kAuto, "short rows", kWalk, kTiles, kWalk},
};

int failures = 0;

void Expect(const Row& row, const char* name, const CellTraits& cell, const RegisterTileShape& tile,
            const DeviceLimits& limits, Path expected) {
  const bool one_shared_tile = row.problem.steps < 1000;
  const Path path = Choose(row.problem, cell, RegisterTilePartition(row.problem, tile, limits),
                           one_shared_tile, row.algorithm, limits);
  if (path == expected) return;
  std::printf("%s (%s) takes path %d, not %d\n", row.why, name, int(path), int(expected));
  ++failures;
}

}  // namespace

int main() {
  for (const Row& row : kTable) {
    Expect(row, "H100", kForward, kForwardTile, kH100, row.on_h100);
    Expect(row, "gradient, H100", kGradient, kGradientTile, kH100, row.gradient_on_h100);
    Expect(row, "A100", kForward, kForwardTile, kA100, row.on_a100);
  }
  for (const Row& row : kGatedTable) {
    Expect(row, "gated gradient, H100", kGatedGradient, kGatedGradientTile, kH100,
           row.gradient_on_h100);
  }
  return failures;
}
