#include "ncr/workspace.h"

#include <chrono>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(_WIN32)
#include <malloc.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace ncr::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMostKept = size_t{1} << 30;
/// A block that has been unused for this long is freed at the next call.
constexpr std::chrono::seconds kLongestIdle{3};
using Clock = std::chrono::steady_clock;
constexpr size_t kHugePage = size_t{2} << 20;

// Windows has no std::aligned_alloc, and what its own call gives std::free cannot take.
void* aligned_memory(size_t alignment, size_t bytes) {
#if defined(_WIN32)
  return _aligned_malloc(bytes, alignment);
#else
  return std::aligned_alloc(alignment, bytes);
#endif
}

void free_aligned(void* data) {
#if defined(_WIN32)
  _aligned_free(data);
#else
  std::free(data);
#endif
}

struct Block {
  void* data;
  size_t bytes;
  Clock::time_point freed;
};

struct Pool {
  std::mutex mutex;
  std::vector<Block> blocks;
  size_t total = 0;

  /// Gives back the first `n` blocks; the oldest come first.
  void give_back(size_t n) {
    for (size_t i = 0; i < n; ++i) {
      free_aligned(blocks[i].data);
      total -= blocks[i].bytes;
    }
    blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(n));
  }
};

/// Large blocks ask for huge pages: faulting in small ones took longer than the squaring that
/// filled them.
void* allocate(size_t* bytes) {
  const bool large = *bytes >= 4 * kHugePage;
  const size_t alignment = large ? kHugePage : kAlignment;
  *bytes = (*bytes + alignment - 1) / alignment * alignment;
  void* data = aligned_memory(alignment, *bytes);
  if (data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (large)
    madvise(data, *bytes, MADV_HUGEPAGE);  // A wish: whether it is granted does not matter.
#endif
  return data;
}

/// The address sanitizer treats kept blocks as freed memory, and of a used one
/// the end beyond what was asked for.
void permit([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes,
            [[maybe_unused]] size_t block) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_POISON_MEMORY_REGION(data, block);
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
#endif
}

Pool& pool() {
  // Never destroyed: threads may still free buffers while the process ends.
  static Pool* instance = new Pool;
  return *instance;
}

}  // namespace

Workspace::Workspace(size_t bytes) : data_(nullptr), bytes_(0) {
  size_t wanted = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    size_t best = p.blocks.size();
    for (size_t i = 0; i < p.blocks.size(); ++i) {
      const size_t size = p.blocks[i].bytes;
      if (size < wanted || size > 2 * wanted) continue;
      if (best == p.blocks.size() || size < p.blocks[best].bytes) best = i;
    }
    if (best < p.blocks.size()) {
      data_ = p.blocks[best].data;
      bytes_ = p.blocks[best].bytes;
      p.total -= bytes_;
      p.blocks.erase(p.blocks.begin() + static_cast<std::ptrdiff_t>(best));
      permit(data_, bytes, bytes_);
      return;
    }
  }
  data_ = allocate(&wanted);
  bytes_ = wanted;
  permit(data_, bytes, bytes_);
}

Workspace::~Workspace() {
  Pool& p = pool();
  {
    const std::lock_guard<std::mutex> lock(p.mutex);
    const auto now = Clock::now();
    size_t old = 0;
    while (old < p.blocks.size() && now - p.blocks[old].freed > kLongestIdle) ++old;
    p.give_back(old);
    if (bytes_ <= kMostKept) {
      permit(data_, 0, bytes_);
      while (p.total + bytes_ > kMostKept) p.give_back(1);
      p.blocks.push_back({data_, bytes_, now});
      p.total += bytes_;
      return;
    }
  }
  free_aligned(data_);
}

size_t kept_memory() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  return p.total;
}

void release_memory() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  p.give_back(p.blocks.size());
}

}  // namespace ncr::cpu
