// Runs the threads of one block as fibers. A fiber runs thread after thread until one of them stops at a barrier; that
// thread keeps the fiber, and another takes the rest. A kernel without barriers so costs one call a thread.
#include <sys/mman.h>

#include <vector>

#include "emulator.h"
#if !defined(__x86_64__) || defined(EMULATOR_UCONTEXT)
#include <ucontext.h>
#endif

namespace {

enum State : unsigned char { ready, at_block_barrier, at_warp_barrier, done };

constexpr unsigned most_threads = 1024;
constexpr size_t stack_bytes = 256 * 1024, page = 4096;

// ---- switching stacks ----
#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
// swapcontext saves the signal mask by a system call, a hundred times the cost of this.
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, .-emulator_switch
)");
struct Context {
  void* stack_pointer = nullptr;
  void prepare(char* low, size_t size, void (*entry)()) {
    // The entry is "returned" into: the stack pointer must then be 8 below a multiple of 16.
    void** top = reinterpret_cast<void**>(low + size) - 2;
    *top = reinterpret_cast<void*>(entry);
    stack_pointer = top - 6;
  }
};
void change(Context& from, Context& to) { emulator_switch(&from.stack_pointer, to.stack_pointer); }
#else
struct Context {
  ucontext_t context;
  void prepare(char* low, size_t size, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = low;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
};
void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
#endif

struct Fiber {
  Context context;
  unsigned thread = 0;
};

// ---- the block that runs ----
void (*body)(void*);
void* call;
unsigned size, started;  // threads in the block, and how many of them have begun
State state[most_threads];
unsigned waiting_mask[most_threads];
uint3 index_of[most_threads];
Fiber* fiber_of[most_threads];
unsigned alive_lanes[most_threads / 32];
alignas(16) char slots[most_threads][16];
int votes;
const char* failure;

Context scheduler;
Fiber* running;
std::vector<Fiber*> idle;

void enter(unsigned thread) {
  running->thread = thread;
  fiber_of[thread] = running;
  threadIdx = index_of[thread];
}

void fiber_main() {
  for (;;) {
    while (started < size) {
      enter(started++);
      body(call);
      unsigned thread = running->thread;
      state[thread] = done;
      alive_lanes[thread / 32] &= ~(1u << thread % 32);
    }
    idle.push_back(running);
    change(running->context, scheduler);
  }
}

Fiber* idle_fiber() {
  if (idle.empty()) {
    static unsigned made = 0;
    // The lowest page is never mapped in: a kernel with too large local arrays faults instead of harming a neighbour.
    char* low = static_cast<char*>(mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (low == MAP_FAILED) return nullptr;
    mprotect(low, page, PROT_NONE);
    Fiber* fiber = new Fiber;
    // Stacks end at different offsets in their pages, since the same offset would map all of them to one cache set.
    fiber->context.prepare(low + page, stack_bytes - made++ % 15 * 256, fiber_main);
    return fiber;
  }
  Fiber* fiber = idle.back();
  idle.pop_back();
  return fiber;
}

void run(Fiber* fiber) {
  running = fiber;
  change(scheduler, fiber->context);
}

void wait(State barrier) {
  state[running->thread] = barrier;
  change(running->context, scheduler);
}

// Frees the lanes whose partners have all arrived with the same mask; lanes that have returned count as arrived.
bool release_warp(unsigned warp) {
  bool any = false;
  unsigned first = warp * 32, lanes = size - first < 32 ? size - first : 32;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (state[first + lane] != at_warp_barrier) continue;
    unsigned mask = waiting_mask[first + lane], partners = mask & alive_lanes[warp];
    bool complete = partners >> lane & 1u;
    for (unsigned other = 0; other < lanes && complete; ++other)
      if (partners >> other & 1u)
        complete = state[first + other] == at_warp_barrier && waiting_mask[first + other] == mask;
    if (!complete) continue;
    for (unsigned other = 0; other < lanes; ++other)
      if (partners >> other & 1u) state[first + other] = ready;
    any = true;
  }
  return any;
}

bool run_block() {
  started = 0;
  memset(state, done, sizeof state);
  for (unsigned warp = 0; warp * 32 < size; ++warp) {
    unsigned lanes = size - warp * 32 < 32 ? size - warp * 32 : 32;
    alive_lanes[warp] = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
  }
  while (started < size && !failure) {
    Fiber* fiber = idle_fiber();
    if (!fiber) return failure = "no memory for the stacks of a block's threads", false;
    run(fiber);
  }
  while (!failure) {
    unsigned left = 0, at_block = 0;
    bool released = false;
    for (unsigned warp = 0; warp * 32 < size && !failure; ++warp) {
      if (!alive_lanes[warp]) continue;
      unsigned end = size < warp * 32 + 32 ? size : warp * 32 + 32;
      // One warp goes as far as it can alone, so that its data stay in cache.
      do {
        for (unsigned t = warp * 32; t < end && !failure; ++t)
          if (state[t] == ready) {
            threadIdx = index_of[t];
            run(fiber_of[t]);
          }
      } while (!failure && release_warp(warp) && (released = true));
      for (unsigned t = warp * 32; t < end; ++t) {
        left += state[t] != done;
        at_block += state[t] == at_block_barrier;
      }
    }
    if (failure || !left) break;
    if (at_block == left) {
      for (unsigned t = 0; t < size; ++t)
        if (state[t] == at_block_barrier) state[t] = ready;
    } else if (!released) {
      failure = "the threads of a block wait at barriers that can never open: "
                "a __syncthreads() or a warp exchange that not every thread reaches";
    }
  }
  return !failure;
}

}  // namespace

extern "C" {

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
char* emulator_shared;

void emulator_sync_block() { wait(at_block_barrier); }

void emulator_sync_warp(unsigned mask) {
  waiting_mask[running->thread] = mask;
  wait(at_warp_barrier);
}

unsigned emulator_lane() { return running->thread % 32; }
unsigned emulator_alive() { return alive_lanes[running->thread / 32]; }
void* emulator_slot(unsigned lane) { return slots[running->thread / 32 * 32 + lane]; }

int emulator_vote(int predicate) {
  emulator_sync_block();
  votes = 0;
  emulator_sync_block();
  votes += predicate != 0;
  emulator_sync_block();
  return votes;
}

// The fiber is never resumed; its stack is given up with the launch.
void emulator_fail(const char* message) {
  failure = message;
  change(running->context, scheduler);
  __builtin_unreachable();
}

float emulator_fmul(float a, float b) { return a * b; }
float emulator_fadd(float a, float b) { return a + b; }
double emulator_dmul(double a, double b) { return a * b; }
double emulator_dadd(double a, double b) { return a + b; }

const char* emulator_error() { return failure; }

// dims: the grid's and the block's three sizes. Returns 0, or 1 with the reason in emulator_error().
int emulator_run(void (*kernel)(void*), void* arguments, const unsigned* dims, unsigned shared_bytes) {
  static std::vector<char> shared;
  failure = nullptr;
  body = kernel;
  call = arguments;
  gridDim = dim3(dims[0], dims[1], dims[2]);
  blockDim = dim3(dims[3], dims[4], dims[5]);
  size = dims[3] * dims[4] * dims[5];
  for (unsigned t = 0; t < size; ++t)
    index_of[t] = {t % dims[3], t / dims[3] % dims[4], t / (dims[3] * dims[4])};
  for (unsigned z = 0; z < dims[2]; ++z)
    for (unsigned y = 0; y < dims[1]; ++y)
      for (unsigned x = 0; x < dims[0]; ++x) {
        blockIdx = {x, y, z};
        // What a block finds in shared memory is undefined: NaN shows a read before the first write.
        shared.assign(shared_bytes + 16, char(0xff));
        emulator_shared = shared.data() + (16 - reinterpret_cast<size_t>(shared.data()) % 16) % 16;
        if (!run_block()) return 1;
      }
  return 0;
}
}
