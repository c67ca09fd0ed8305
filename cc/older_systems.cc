// SPDX-License-Identifier: MIT
// What a new compiler's headers ask of the C and C++ libraries, and older systems' libraries do not
// have: with it, the library runs where its TensorFlow does (manylinux_2_27). None of it leaves
// this library: see exports.map.
#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <new>
#include <sstream>

extern "C" {
// Whether reference counts need no atomics: never, as far as this library is concerned.
char __libc_single_threaded = 0;
}

namespace std {

void __throw_bad_array_new_length() { throw bad_array_new_length(); }

#if __GNUC__ >= 12  // Before, it was noexcept, and is old enough.
void condition_variable::wait(unique_lock<mutex>& lock) {
  pthread_cond_wait(native_handle(), lock.mutex()->native_handle());
}
#endif

template basic_stringstream<char>::basic_stringstream();

}  // namespace std
