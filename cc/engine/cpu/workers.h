// SPDX-License-Identifier: MIT
// Runs numbered tasks on whatever thread pool the caller has.
#ifndef TF_PLR_ENGINE_CPU_WORKERS_H_
#define TF_PLR_ENGINE_CPU_WORKERS_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace tf_plr {

struct Workers {
  using Schedule = std::function<void(std::function<void()>)>;

  // `threads` may be 0, as in XLA if nobody gave it a thread pool. The calling thread then runs all
  // tasks.
  Workers(int threads, Schedule schedule)
      : threads(std::max(1, threads)), schedule(std::move(schedule)) {}

  int threads;  // The most that run at once, including the calling thread.
  Schedule schedule;
};

// Calls task(0, worker), task(1, worker), ... task(count - 1, worker), each once, and returns when
// all have returned. Workers are numbered from 0 to workers.threads - 1, and each has one task at a
// time. A task must not throw. If there is no memory for helpers, the calling thread runs all
// tasks.
//
// Tasks are claimed in order, so a task may wait for one with a smaller number, which a running
// thread has already claimed. The calling thread runs tasks too, so the call never waits for a busy
// pool. A helper may start after the last task was claimed, even after the call has returned; it
// then touches only `Shared`.
template <typename Task>
void RunTasks(const Workers& workers, int64_t count, const Task& task) {
  struct Shared {
    std::atomic<int64_t> next{0};
    std::atomic<int> workers{0};
    std::mutex mutex;
    std::condition_variable all_done;
    int64_t done = 0;  // Guarded by mutex.
  };
  const int64_t helpers = std::min<int64_t>(workers.threads, count) - 1;
  std::shared_ptr<Shared> shared;
  try {
    if (helpers > 0) shared = std::make_shared<Shared>();
  } catch (const std::bad_alloc&) {
  }
  if (shared == nullptr) {
    for (int64_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  auto work = [shared, count, &task]() noexcept {
    const int worker = shared->workers.fetch_add(1);
    int64_t finished = 0;
    for (int64_t i; (i = shared->next.fetch_add(1)) < count; ++finished) {
      task(i, worker);
    }
    if (finished == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->done += finished;
    if (shared->done == count) shared->all_done.notify_one();
  };
  try {
    for (int64_t i = 0; i < helpers; ++i) workers.schedule(work);
  } catch (...) {  // No memory, or no more threads.
    // The helpers scheduled so far and the calling thread run all tasks.
  }
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done == count; });
}

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_WORKERS_H_
