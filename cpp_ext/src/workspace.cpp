#include "ncr/workspace.h"

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ncr::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMostKept = size_t{128} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

struct Block {
  void* data;
  size_t bytes;
};

struct Pool {
  std::mutex mutex;
  std::vector<Block> blocks;
  size_t total = 0;
};

/// Large blocks ask for huge pages: faulting in small ones took longer than the squaring that
/// filled them.
void* allocate(size_t* bytes) {
  const bool large = *bytes >= 4 * kHugePage;
  const size_t alignment = large ? kHugePage : kAlignment;
  *bytes = (*bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, *bytes);
  if (data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (large)
    madvise(data, *bytes, MADV_HUGEPAGE);  // A wish: whether it is granted does not matter.
#endif
  return data;
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
      p.blocks[best] = p.blocks.back();
      p.blocks.pop_back();
      return;
    }
  }
  data_ = allocate(&wanted);
  bytes_ = wanted;
}

Workspace::~Workspace() {
  Pool& p = pool();
  {
    const std::lock_guard<std::mutex> lock(p.mutex);
    if (bytes_ <= kMostKept) {
      // The oldest go first.
      while (p.total + bytes_ > kMostKept && !p.blocks.empty()) {
        std::free(p.blocks.front().data);
        p.total -= p.blocks.front().bytes;
        p.blocks.erase(p.blocks.begin());
      }
      p.blocks.push_back({data_, bytes_});
      p.total += bytes_;
      return;
    }
  }
  std::free(data_);
}

}  // namespace ncr::cpu
