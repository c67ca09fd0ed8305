// SPDX-License-Identifier: MIT
// The glibc functions that CUDA's static runtime uses, in versions that older systems have too.
//
// Linked on a system with glibc 2.34 or later, the library would require that system's versions of
// these functions, and would not load with an older glibc. So each name here is a jump to the first
// version of its function. The library does not export them: see exports.map.
#if defined(TF_PLR_CUDA) && defined(__x86_64__)

// clang-format off
#define VERSION(name, version)                          \
  asm(".symver first_" #name ", " #name "@" version "\n" \
      ".text\n"                                         \
      ".globl " #name "\n"                              \
      ".hidden " #name "\n"                             \
      ".type " #name ", @function\n"                    \
      #name ":\n"                                       \
      "jmp *first_" #name "@GOTPCREL(%rip)\n"           \
      ".size " #name ", . - " #name "\n");
#define FIRST_VERSION(name) VERSION(name, "GLIBC_2.2.5")
// clang-format on

VERSION(dlmopen, "GLIBC_2.3.4")
FIRST_VERSION(dlclose)
FIRST_VERSION(dlerror)
FIRST_VERSION(dlopen)
FIRST_VERSION(dlsym)
FIRST_VERSION(dlvsym)
FIRST_VERSION(pthread_condattr_setpshared)
FIRST_VERSION(pthread_create)
FIRST_VERSION(pthread_detach)
FIRST_VERSION(pthread_getspecific)
FIRST_VERSION(pthread_join)
FIRST_VERSION(pthread_key_create)
FIRST_VERSION(pthread_key_delete)
FIRST_VERSION(pthread_kill)
FIRST_VERSION(pthread_mutex_trylock)
FIRST_VERSION(pthread_mutexattr_destroy)
FIRST_VERSION(pthread_mutexattr_init)
FIRST_VERSION(pthread_mutexattr_setpshared)
FIRST_VERSION(pthread_mutexattr_settype)
FIRST_VERSION(pthread_once)
FIRST_VERSION(pthread_rwlock_destroy)
FIRST_VERSION(pthread_rwlock_init)
FIRST_VERSION(pthread_rwlock_rdlock)
FIRST_VERSION(pthread_rwlock_timedrdlock)
FIRST_VERSION(pthread_rwlock_timedwrlock)
FIRST_VERSION(pthread_rwlock_tryrdlock)
FIRST_VERSION(pthread_rwlock_trywrlock)
FIRST_VERSION(pthread_rwlock_unlock)
FIRST_VERSION(pthread_rwlock_wrlock)
FIRST_VERSION(pthread_rwlockattr_destroy)
FIRST_VERSION(pthread_rwlockattr_init)
FIRST_VERSION(pthread_rwlockattr_setpshared)
FIRST_VERSION(pthread_setspecific)
FIRST_VERSION(pthread_spin_destroy)
FIRST_VERSION(pthread_spin_init)
FIRST_VERSION(pthread_spin_lock)
FIRST_VERSION(pthread_spin_trylock)
FIRST_VERSION(pthread_spin_unlock)
FIRST_VERSION(sem_destroy)
FIRST_VERSION(sem_init)
FIRST_VERSION(sem_post)
FIRST_VERSION(sem_timedwait)
FIRST_VERSION(sem_trywait)
FIRST_VERSION(sem_wait)
FIRST_VERSION(shm_open)
FIRST_VERSION(shm_unlink)

#endif
