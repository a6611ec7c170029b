#pragma once

#include <cstddef>
#include <cstdint>

namespace ncr::cpu {

/// Scratch memory, aligned to 64 bytes and not initialised. Freed buffers are kept for the next
/// call (page faults cost a tenth of a small exponential), up to a bounded total.
class Workspace {
 public:
  explicit Workspace(size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  size_t bytes() const { return bytes_; }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
  size_t bytes_;
};

/// Bytes that the pool holds.
size_t kept_memory();

/// Frees them.
void release_memory();

}  // namespace ncr::cpu
