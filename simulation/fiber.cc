#include "simulation/fiber.h"

#include <sys/mman.h>
#include <sys/ucontext.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#  define SHEAF_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define SHEAF_ADDRESS_SANITIZER 1
#  endif
#endif
#ifdef SHEAF_ADDRESS_SANITIZER
#  include <sanitizer/asan_interface.h>
#  include <sanitizer/common_interface_defs.h>
#endif

namespace sheaf::simulation {
namespace {

/// A path of the file system alone takes 4 KiB, messages of Arrow's much less.
constexpr size_t kStackBytes = size_t{512} << 10;

// Stacks are used again: fresh memory costs more than a switch.
std::vector<void*>& FreeStacks() {
  static auto* const kStacks = new std::vector<void*>();
  return *kStacks;
}

void* TakeStack() {
  std::vector<void*>& free = FreeStacks();
  if (!free.empty()) {
    void* const stack = free.back();
    free.pop_back();
#ifdef SHEAF_ADDRESS_SANITIZER
    __asan_unpoison_memory_region(stack, kStackBytes);
#endif
    return stack;
  }
  void* const stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SHEAF_CHECK(stack != MAP_FAILED);
  return stack;
}

}  // namespace

struct Fiber::Context {
  void* stack = nullptr;
  ucontext_t inside;
  ucontext_t outside;
  // Of address sanitizer: the stack that is left, and where the resumer's lies.
  void* fake_inside = nullptr;
  void* fake_outside = nullptr;
  const void* outside_bottom = nullptr;
  size_t outside_size = 0;
};

Fiber::Fiber(std::function<void()> body)
    : body_(std::move(body)), context_(std::make_unique<Context>()) {
  Context& context = *context_;
  context.stack = TakeStack();
  SHEAF_CHECK(::getcontext(&context.inside) == 0);
  context.inside.uc_stack.ss_sp = context.stack;
  context.inside.uc_stack.ss_size = kStackBytes;
  context.inside.uc_link = nullptr;
  // makecontext hands on ints only.
  const auto address = reinterpret_cast<uint64_t>(this);
  ::makecontext(&context.inside, reinterpret_cast<void (*)()>(&Fiber::Enter), 2,
                static_cast<uint32_t>(address), static_cast<uint32_t>(address >> 32));
}

Fiber::~Fiber() { FreeStacks().push_back(context_->stack); }

void Fiber::Enter(uint32_t low, uint32_t high) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): as the constructor took it apart
  auto* const self = reinterpret_cast<Fiber*>(uint64_t{high} << 32 | low);
#ifdef SHEAF_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &self->context_->outside_bottom,
                                  &self->context_->outside_size);
#endif
  self->body_();
  self->has_ended_ = true;
  self->SwitchOut();
  SHEAF_CHECK(false);  // nobody resumes it any more
}

void Fiber::Resume() {
  SHEAF_CHECK(!has_ended_);
  Context& context = *context_;
#ifdef SHEAF_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&context.fake_outside, context.stack, kStackBytes);
#endif
  SHEAF_CHECK(::swapcontext(&context.outside, &context.inside) == 0);
#ifdef SHEAF_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(context.fake_outside, nullptr, nullptr);
#endif
}

void Fiber::SwitchOut() {
  Context& context = *context_;
#ifdef SHEAF_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(has_ended_ ? nullptr : &context.fake_inside,
                                 context.outside_bottom, context.outside_size);
#endif
  SHEAF_CHECK(::swapcontext(&context.inside, &context.outside) == 0);
#ifdef SHEAF_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(context.fake_inside, &context.outside_bottom,
                                  &context.outside_size);
#endif
}

}  // namespace sheaf::simulation
