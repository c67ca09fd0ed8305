// SPDX-License-Identifier: MIT
// Symbols that a new compiler's headers use and that the C and C++ libraries of older systems lack.
// Defining them here lets this library run wherever its TensorFlow runs (manylinux_2_27). The
// library does not export them: see exports.map.
#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <new>
#include <sstream>

extern "C" {
// libstdc++ updates reference counts without atomics if this is set. Zero keeps the atomics.
char __libc_single_threaded = 0;
}

namespace std {

void __throw_bad_array_new_length() { throw bad_array_new_length(); }

#if __GNUC__ >= 12  // GCC 11 and earlier use the older symbol, which is noexcept.
void condition_variable::wait(unique_lock<mutex>& lock) {
  pthread_cond_wait(native_handle(), lock.mutex()->native_handle());
}
#endif

template basic_stringstream<char>::basic_stringstream();

}  // namespace std
