// A mutex that Clang's thread-safety analysis knows (-Wthread-safety); other compilers
// ignore the annotations.

#pragma once

#include <mutex>

#if defined(__clang__)
#  define SHEAF_THREAD_ANNOTATION(x) __attribute__((x))
#else
#  define SHEAF_THREAD_ANNOTATION(x)
#endif

/// A member that is read and written only while `mutex` is held.
#define SHEAF_GUARDED_BY(mutex) SHEAF_THREAD_ANNOTATION(guarded_by(mutex))
/// A function that its caller calls with `mutex` held.
#define SHEAF_REQUIRES(mutex) SHEAF_THREAD_ANNOTATION(requires_capability(mutex))
/// A function that takes `mutex` itself.
#define SHEAF_EXCLUDES(mutex) SHEAF_THREAD_ANNOTATION(locks_excluded(mutex))

namespace sheaf {

/// \brief std::mutex with annotations. Use it through MutexLock.
class SHEAF_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void Lock() SHEAF_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void Unlock() SHEAF_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

/// \brief Holds a Mutex for its scope.
class SHEAF_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) SHEAF_THREAD_ANNOTATION(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_->Lock();
  }
  ~MutexLock() SHEAF_THREAD_ANNOTATION(release_capability()) { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* mutex_;
};

}  // namespace sheaf
