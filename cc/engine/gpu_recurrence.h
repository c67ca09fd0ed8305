// SPDX-License-Identifier: MIT
// The GPU engine as plain functions, without CUDA headers; compiled in gpu_recurrence_*.cu.
#ifndef TF_PLR_ENGINE_GPU_RECURRENCE_H_
#define TF_PLR_ENGINE_GPU_RECURRENCE_H_

#include <cstddef>

#include "cc/engine/cells.h"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

// Element types by name only; the others are float, double, Complex<float>, Complex<double>.
struct Half;
struct BFloat16;

// Compile-time tuning is in Traits (gpu_engine.cuh); this is the rest. 0: chosen by shape. Rows
// that look back (gpu_register_tiles.cuh) take none of it.
struct Tuning {
  int threads = 0;  // Of a block; a power of two from 32 to 512.
  int lanes = 0;    // Threads of a row of 32 columns or more; a power of two from 8 to 32.
  int stages = 0;   // Tiles of a block in shared memory; 1 to 6.
  int blocks_per_multiprocessor = 0;
};

// Device memory that Run needs beside its arguments; 0 where steps are not split.
template <typename Cell, typename T>
size_t WorkspaceBytes(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                      const Tuning& tuning = {});

// Enqueues Cell over `problem` on `stream` (a cudaStream_t) of the current device. The workspace
// may hold anything. Returns null, or what went wrong; then nothing may have been computed.
template <typename Cell, typename T>
const char* Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                void* workspace, void* stream, const Tuning& tuning = {});

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_RECURRENCE_H_
