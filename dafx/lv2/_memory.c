/* Memory and random numbers of plugins: a new instance is the same each time.
 *
 * Many plugins read memory that they have never written, or draw from rand(),
 * whose state the whole process shares: what they sound like then depends on
 * what ran before. So the calls of a plugin's library to malloc and the like
 * are led here, by the table through which it calls other libraries. Memory
 * comes zeroed; random numbers come from the instance, from the default seed.
 * The memory is the C library's: whoever gets it may free it.
 *
 * It also keeps account of what an instance holds, which lets a used instance
 * be rewound: its memory is set back to what it held at the start.
 *
 * Only on Linux on x86-64 and aarch64; DAFX_LV2_PLAIN_MEMORY in the environment
 * turns it off. Then nothing is zeroed and nothing can be rewound.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
  void* data;
  size_t size;
} Block;

typedef struct {
  bool keeps_account;
  bool changed; /* blocks came or went since the snapshot, or threads came */
  bool threaded;
  uintptr_t library; /* where it was loaded to */
  Block* blocks;
  size_t n_blocks, max_blocks;
  uint8_t* snapshot; /* the contents of all blocks, one behind the other */
  struct random_data random, random_at_snapshot;
  char random_state[128], random_state_at_snapshot[128];
  uint16_t random48[3], random48_at_snapshot[3];
} Heap;

/* Of the instance that this thread is running. */
static _Thread_local Heap* current = NULL;

static void seed_random(Heap* of, unsigned int seed) {
  of->random.state = NULL;
  initstate_r(seed, of->random_state, sizeof(of->random_state), &of->random);
}

static void seed_random48(Heap* of, long seed) {
  of->random48[0] = 0x330e;
  of->random48[1] = (uint16_t)seed;
  of->random48[2] = (uint16_t)(seed >> 16);
}

/* Starts the account of a new instance; the former one's ends. */
static void begin_heap(Heap* of, bool keeps_account) {
  of->keeps_account = keeps_account;
  of->changed = of->threaded = false;
  of->n_blocks = 0;
  free(of->snapshot);
  of->snapshot = NULL;
  seed_random(of, 1);
  memset(of->random48, 0, sizeof(of->random48));
}

static void free_heap(Heap* of) {
  free(of->blocks);
  free(of->snapshot);
  of->blocks = NULL;
  of->snapshot = NULL;
}

static void note(void* data, size_t size) {
  if (!data || !current || !current->keeps_account) return;
  current->changed = true;
  if (current->n_blocks == current->max_blocks) {
    const size_t max_blocks = current->max_blocks ? 2 * current->max_blocks : 64;
    Block* blocks = realloc(current->blocks, max_blocks * sizeof(*blocks));
    if (!blocks) {
      current->keeps_account = false;
      return;
    }
    current->blocks = blocks;
    current->max_blocks = max_blocks;
  }
  current->blocks[current->n_blocks++] = (Block){data, size};
}

static void forget(const void* data) {
  if (!data || !current || !current->keeps_account) return;
  current->changed = true;
  for (size_t i = current->n_blocks; i--;) /* mostly, the last come go first */
    if (current->blocks[i].data == data) {
      --current->n_blocks;
      memmove(current->blocks + i, current->blocks + i + 1,
              (current->n_blocks - i) * sizeof(Block));
      return;
    }
}

static int compare_blocks(const void* a, const void* b) {
  const void *left = ((const Block*)a)->data, *right = ((const Block*)b)->data;
  return left < right ? -1 : left > right;
}

/* Whether a word is an address in one of the blocks, which are sorted. */
static bool is_in_blocks(const Heap* of, uintptr_t word) {
  size_t low = 0, high = of->n_blocks;
  while (low < high) { /* the first block that begins behind the word */
    const size_t middle = (low + high) / 2;
    if ((uintptr_t)of->blocks[middle].data <= word)
      low = middle + 1;
    else
      high = middle;
  }
  return low && word - (uintptr_t)of->blocks[low - 1].data <
                    of->blocks[low - 1].size;
}

/* Looks through the static data of one library; see `is_shared`. */
static int scan_library(struct dl_phdr_info* info, size_t size, void* to) {
  const Heap* of = to;
  (void)size;
  if (info->dlpi_addr != of->library) return 0;
  uintptr_t constant = 0, constant_end = 0; /* set up by the loader */
  for (int i = 0; i < info->dlpi_phnum; ++i)
    if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) {
      constant = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
      constant_end = constant + info->dlpi_phdr[i].p_memsz;
    }
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)* segment = &info->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_W)) continue;
    const uintptr_t start = info->dlpi_addr + segment->p_vaddr;
    for (uintptr_t at = (start + 7) & ~(uintptr_t)7;
         at + 8 <= start + segment->p_memsz; at += 8) {
      if (at >= constant && at < constant_end) continue;
      if (is_in_blocks(of, *(const uintptr_t*)at)) return 1;
    }
  }
  return 0;
}

/* Whether static data of the library point to a block: then other instances
 * may share it, or even free it. */
static bool is_shared(Heap* of) {
  if (!of->n_blocks) return false;
  qsort(of->blocks, of->n_blocks, sizeof(Block), compare_blocks);
  return dl_iterate_phdr(scan_library, of) != 0;
}

/* Keeps what the blocks hold. Returns false where it cannot be rewound. */
static bool take_snapshot(Heap* of) {
  size_t size = 1;
  for (size_t i = 0; i < of->n_blocks; ++i) size += of->blocks[i].size;
  if (!of->keeps_account || of->threaded || is_shared(of)) return false;
  of->snapshot = malloc(size);
  if (!of->snapshot) return false;
  uint8_t* to = of->snapshot;
  for (size_t i = 0; i < of->n_blocks; ++i) {
    memcpy(to, of->blocks[i].data, of->blocks[i].size);
    to += of->blocks[i].size;
  }
  of->random_at_snapshot = of->random;
  memcpy(of->random_state_at_snapshot, of->random_state,
         sizeof(of->random_state));
  memcpy(of->random48_at_snapshot, of->random48, sizeof(of->random48));
  of->changed = false;
  return true;
}

/* Sets all blocks back. Returns false, and does nothing, where that would not
 * lead to the start: there is no snapshot, or other blocks exist now. */
static bool restore_snapshot(Heap* of) {
  if (!of->snapshot || of->changed || of->threaded) return false;
  const uint8_t* from = of->snapshot;
  for (size_t i = 0; i < of->n_blocks; ++i) {
    memcpy(of->blocks[i].data, from, of->blocks[i].size);
    from += of->blocks[i].size;
  }
  of->random = of->random_at_snapshot;
  memcpy(of->random_state, of->random_state_at_snapshot,
         sizeof(of->random_state));
  memcpy(of->random48, of->random48_at_snapshot, sizeof(of->random48));
  return true;
}

/* What plugins call instead ------------------------------------------------ */

static void* own_calloc(size_t n, size_t size) {
  void* data = calloc(n, size);
  note(data, n * size);
  return data;
}

static void* own_malloc(size_t size) { return own_calloc(1, size); }

static void* own_realloc(void* data, size_t size) {
  const size_t former = data ? malloc_usable_size(data) : 0;
  forget(data);
  uint8_t* grown = realloc(data, size);
  if (!grown) {
    if (size) note(data, former);
    return NULL;
  }
  /* Asked for as a whole, which moves nothing: only so may all of it be written
     (_FORTIFY_SOURCE, which Ubuntu compiles with, ends the process else). */
  const size_t usable = malloc_usable_size(grown);
  uint8_t* whole = realloc(grown, usable);
  if (!whole) return NULL;
  if (usable > former) memset(whole + former, 0, usable - former);
  note(whole, size);
  return whole;
}

static void own_free(void* data) {
  forget(data);
  free(data);
}

static int own_posix_memalign(void** data, size_t alignment, size_t size) {
  const int failure = posix_memalign(data, alignment, size);
  if (failure) return failure;
  memset(*data, 0, size);
  note(*data, size);
  return 0;
}

static void* own_aligned_alloc(size_t alignment, size_t size) {
  void* data = aligned_alloc(alignment, size);
  if (!data) return NULL;
  memset(data, 0, size);
  note(data, size);
  return data;
}

/* C++: when memory ends, the library's own throws as it should. */
static void* (*cxx_new)(size_t) = NULL;
static void* (*cxx_new_aligned)(size_t, size_t) = NULL;

static void* own_new_nothrow(size_t size, const void* tag) {
  (void)tag;
  return own_calloc(1, size ? size : 1);
}

static void* own_new(size_t size) {
  void* data = own_new_nothrow(size, NULL);
  return data ? data : cxx_new(size);
}

static void* own_new_aligned(size_t size, size_t alignment) {
  void* data = own_aligned_alloc(alignment, size);
  return data ? data : cxx_new_aligned(size, alignment);
}

static void own_delete_sized(void* data, size_t size) {
  (void)size;
  own_free(data);
}

static void own_delete_sized_aligned(void* data, size_t size,
                                     size_t alignment) {
  (void)size;
  (void)alignment;
  own_free(data);
}

static int own_pthread_create(pthread_t* thread,
                              const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) {
  if (current) current->threaded = true;
  return pthread_create(thread, attributes, start, argument);
}

static long own_random(void) {
  int32_t number = 0;
  if (!current) return random();
  random_r(&current->random, &number);
  return number;
}

static int own_rand(void) { return (int)own_random(); }

static void own_srandom(unsigned int seed) {
  if (current)
    seed_random(current, seed);
  else
    srandom(seed);
}

static double own_drand48(void) {
  return current ? erand48(current->random48) : drand48();
}

static long own_lrand48(void) {
  return current ? nrand48(current->random48) : lrand48();
}

static long own_mrand48(void) {
  return current ? jrand48(current->random48) : mrand48();
}

static void own_srand48(long seed) {
  if (current)
    seed_random48(current, seed);
  else
    srand48(seed);
}

static const struct {
  const char* name;
  void* function;
} own_functions[] = {
    {"malloc", own_malloc},
    {"calloc", own_calloc},
    {"realloc", own_realloc},
    {"free", own_free},
    {"posix_memalign", own_posix_memalign},
    {"aligned_alloc", own_aligned_alloc},
    {"memalign", own_aligned_alloc},
    {"pthread_create", own_pthread_create},
    {"rand", own_rand},
    {"srand", own_srandom},
    {"random", own_random},
    {"srandom", own_srandom},
    {"drand48", own_drand48},
    {"lrand48", own_lrand48},
    {"mrand48", own_mrand48},
    {"srand48", own_srand48},
    /* operator new, new[], delete and delete[]. */
    {"_Znwm", own_new},
    {"_Znam", own_new},
    {"_ZnwmSt11align_val_t", own_new_aligned},
    {"_ZnamSt11align_val_t", own_new_aligned},
    {"_ZnwmRKSt9nothrow_t", own_new_nothrow},
    {"_ZnamRKSt9nothrow_t", own_new_nothrow},
    {"_ZdlPv", own_free},
    {"_ZdaPv", own_free},
    {"_ZdlPvm", own_delete_sized},
    {"_ZdaPvm", own_delete_sized},
    {"_ZdlPvSt11align_val_t", own_delete_sized},
    {"_ZdaPvSt11align_val_t", own_delete_sized},
    {"_ZdlPvmSt11align_val_t", own_delete_sized_aligned},
    {"_ZdaPvmSt11align_val_t", own_delete_sized_aligned},
    {"_ZdlPvRKSt9nothrow_t", own_delete_sized},
    {"_ZdaPvRKSt9nothrow_t", own_delete_sized},
};

/* Leading calls here ------------------------------------------------------- */

#if defined(__x86_64__)
enum { JUMP_SLOT = R_X86_64_JUMP_SLOT, GLOB_DAT = R_X86_64_GLOB_DAT };
#elif defined(__aarch64__)
enum { JUMP_SLOT = R_AARCH64_JUMP_SLOT, GLOB_DAT = R_AARCH64_GLOB_DAT };
#else
enum { JUMP_SLOT = -1, GLOB_DAT = -1 }; /* no such relocation: none changes */
#endif

/* Whether a function lies in the C or C++ library: another maker's must not be
 * given memory of ours, nor ours of theirs. */
static bool is_standard(void* function) {
  Dl_info info;
  if (!dladdr(function, &info) || !info.dli_fname) return false;
  const char* file = strrchr(info.dli_fname, '/');
  file = file ? file + 1 : info.dli_fname;
  return !strncmp(file, "libc.so", 7) || !strncmp(file, "libc-", 5) ||
         !strncmp(file, "libstdc++.so", 12) ||
         !strncmp(file, "libpthread", 10);
}

static void* own_function(const char* name, void* theirs) {
  for (size_t i = 0; i < sizeof(own_functions) / sizeof(*own_functions); ++i)
    if (!strcmp(own_functions[i].name, name)) {
      if (!is_standard(theirs)) return NULL;
      if (own_functions[i].function == (void*)own_new) cxx_new = theirs;
      if (own_functions[i].function == (void*)own_new_aligned)
        cxx_new_aligned = theirs;
      return own_functions[i].function;
    }
  return NULL;
}

static void redirect(const ElfW(Rela)* relocations, size_t size,
                     const ElfW(Sym)* symbols, const char* names,
                     ElfW(Addr) base) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (size_t i = 0; i < size / sizeof(*relocations); ++i) {
    const int type = (int)ELF64_R_TYPE(relocations[i].r_info);
    if (type != JUMP_SLOT && type != GLOB_DAT) continue;
    void** slot = (void**)(base + relocations[i].r_offset);
    const char* name =
        names + symbols[ELF64_R_SYM(relocations[i].r_info)].st_name;
    void* function = own_function(name, *slot);
    if (!function) continue;
    /* The table is read-only from when the library is loaded; it is left
     * writable, since other data may share its page. */
    void* start = (void*)((uintptr_t)slot & ~(page - 1));
    if (!mprotect(start, page, PROT_READ | PROT_WRITE)) *slot = function;
  }
}

/* Loads a plugin's library for good and leads its calls here. Returns where it
 * was loaded to; 0 if that was not done. */
static uintptr_t prepare_library(const char* path) {
  struct link_map* library = NULL;
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle || getenv("DAFX_LV2_PLAIN_MEMORY") ||
      dlinfo(handle, RTLD_DI_LINKMAP, &library))
    return 0;
  ElfW(Addr) tables[DT_NUM] = {0};
  for (const ElfW(Dyn)* entry = library->l_ld; entry->d_tag; ++entry)
    if (entry->d_tag > 0 && entry->d_tag < DT_NUM)
      tables[entry->d_tag] = entry->d_un.d_ptr;
  const ElfW(Sym)* symbols = (const ElfW(Sym)*)tables[DT_SYMTAB];
  const char* names = (const char*)tables[DT_STRTAB];
  if (tables[DT_PLTREL] == DT_RELA)
    redirect((const ElfW(Rela)*)tables[DT_JMPREL], tables[DT_PLTRELSZ],
             symbols, names, library->l_addr);
  redirect((const ElfW(Rela)*)tables[DT_RELA], tables[DT_RELASZ], symbols,
           names, library->l_addr);
  return JUMP_SLOT >= 0 ? library->l_addr : 0;
}
