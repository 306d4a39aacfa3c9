/* Memory and random numbers of plugins: a new instance is the same each time.
 *
 * Many plugins read memory that they have never written, or draw from rand(),
 * whose state the whole process shares: what they sound like then depends on
 * what ran before. So the calls of a plugin's library to malloc and the like
 * are led here, by the table through which it calls other libraries. Memory
 * comes zeroed; random numbers come from the instance, from the default seed.
 * The memory is the C library's: whoever gets it may free it.
 * What is not led here (calls of other libraries, threads of the plugin) goes
 * where it went before, so that nothing breaks.
 *
 * Only on Linux on x86-64 and aarch64, and only with the C library's own malloc;
 * DAFX_LV2_PLAIN_MEMORY in the environment turns it off.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <elf.h>
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
  struct random_data random;
  char random_state[128];
  uint16_t random48[3];
  size_t n_bytes; /* taken since the start, whatever was given back */
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

/* For a new instance. */
static void begin_heap(Heap* of) {
  seed_random(of, 1);
  memset(of->random48, 0, sizeof(of->random48));
  of->n_bytes = 0;
}

static void count(size_t size) {
  if (current) current->n_bytes += size;
}

/* What plugins call instead ------------------------------------------------ */

static void* own_calloc(size_t n, size_t size) {
  void* data = calloc(n, size);
  if (data) count(n * size);
  return data;
}

static void* own_malloc(size_t size) { return own_calloc(1, size); }

static void* own_realloc(void* data, size_t size) {
  const size_t former = data ? malloc_usable_size(data) : 0;
  uint8_t* grown = realloc(data, size);
  if (!grown) return NULL;
  /* Asked for as a whole, which moves nothing: only so may all of it be written
     (_FORTIFY_SOURCE, which Ubuntu compiles with, ends the process else). */
  const size_t usable = malloc_usable_size(grown);
  uint8_t* whole = realloc(grown, usable);
  if (!whole) return NULL;
  if (usable > former) {
    memset(whole + former, 0, usable - former);
    count(usable - former);
  }
  return whole;
}

static int own_posix_memalign(void** data, size_t alignment, size_t size) {
  const int failure = posix_memalign(data, alignment, size);
  if (failure) return failure;
  memset(*data, 0, size);
  count(size);
  return 0;
}

static void* own_aligned_alloc(size_t alignment, size_t size) {
  void* data = aligned_alloc(alignment, size);
  if (!data) return NULL;
  memset(data, 0, size);
  count(size);
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
    {"posix_memalign", own_posix_memalign},
    {"aligned_alloc", own_aligned_alloc},
    {"memalign", own_aligned_alloc},
    {"rand", own_rand},
    {"srand", own_srandom},
    {"random", own_random},
    {"srandom", own_srandom},
    {"drand48", own_drand48},
    {"lrand48", own_lrand48},
    {"mrand48", own_mrand48},
    {"srand48", own_srand48},
    /* operator new and new[]. */
    {"_Znwm", own_new},
    {"_Znam", own_new},
    {"_ZnwmSt11align_val_t", own_new_aligned},
    {"_ZnamSt11align_val_t", own_new_aligned},
    {"_ZnwmRKSt9nothrow_t", own_new_nothrow},
    {"_ZnamRKSt9nothrow_t", own_new_nothrow},
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
 * given memory of ours, nor ours of theirs. Sanitizers stand for the C library. */
static bool is_standard(void* function) {
  static const char* const files[] = {"libc.so",      "libc-",
                                      "libstdc++.so", "libpthread",
                                      "libasan.so",   "libtsan.so"};
  Dl_info info;
  if (!dladdr(function, &info) || !info.dli_fname) return false;
  const char* file = strrchr(info.dli_fname, '/');
  file = file ? file + 1 : info.dli_fname;
  for (size_t i = 0; i < sizeof(files) / sizeof(*files); ++i)
    if (!strncmp(file, files[i], strlen(files[i]))) return true;
  return false;
}

/* Whether the process takes its memory from the C library. */
static bool has_standard_memory(void) {
  void* const functions[] = {malloc, calloc, realloc, free, aligned_alloc};
  for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); ++i)
    if (!is_standard(functions[i])) return false;
  return true;
}

/* Returns what stands in for a function of a library; NULL for what is to stay
 * as it is. Notes if that is so because it is of another maker. */
static void* own_function(const char* name, void* theirs, bool* is_foreign) {
  for (size_t i = 0; i < sizeof(own_functions) / sizeof(*own_functions); ++i)
    if (!strcmp(own_functions[i].name, name)) {
      void* own = own_functions[i].function;
      if (theirs == own) return NULL; /* led here before */
      if (!is_standard(theirs)) {
        *is_foreign = true;
        return NULL;
      }
      if (own == (void*)own_new) cxx_new = theirs;
      if (own == (void*)own_new_aligned) cxx_new_aligned = theirs;
      return own;
    }
  return NULL;
}

static bool redirect(const ElfW(Rela)* relocations, size_t size,
                     const ElfW(Sym)* symbols, const char* names,
                     ElfW(Addr) base) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  bool is_foreign = false;
  for (size_t i = 0; i < size / sizeof(*relocations); ++i) {
    const int type = (int)ELF64_R_TYPE(relocations[i].r_info);
    if (type != JUMP_SLOT && type != GLOB_DAT) continue;
    void** slot = (void**)(base + relocations[i].r_offset);
    const char* name =
        names + symbols[ELF64_R_SYM(relocations[i].r_info)].st_name;
    void* function = own_function(name, *slot, &is_foreign);
    if (!function) continue;
    /* The table is read-only from when the library is loaded; it is left
     * writable, since other data may share its page. */
    void* start = (void*)((uintptr_t)slot & ~(page - 1));
    if (!mprotect(start, page, PROT_READ | PROT_WRITE)) *slot = function;
  }
  return !is_foreign;
}

/* Loads a plugin's library for good and leads its calls here. Returns false
 * where memory is of another maker, whose calls stay as they are. One thread at
 * a time. */
static bool prepare_library(const char* path) {
  struct link_map* library = NULL;
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle || JUMP_SLOT < 0 || getenv("DAFX_LV2_PLAIN_MEMORY") ||
      dlinfo(handle, RTLD_DI_LINKMAP, &library))
    return true;
  static int is_standard_memory = -1; /* not yet known */
  if (is_standard_memory < 0) is_standard_memory = has_standard_memory();
  if (!is_standard_memory) return false;
  ElfW(Addr) tables[DT_NUM] = {0};
  for (const ElfW(Dyn)* entry = library->l_ld; entry->d_tag; ++entry)
    if (entry->d_tag > 0 && entry->d_tag < DT_NUM)
      tables[entry->d_tag] = entry->d_un.d_ptr;
  const ElfW(Sym)* symbols = (const ElfW(Sym)*)tables[DT_SYMTAB];
  const char* names = (const char*)tables[DT_STRTAB];
  bool is_led = redirect((const ElfW(Rela)*)tables[DT_RELA],
                         tables[DT_RELASZ], symbols, names, library->l_addr);
  if (tables[DT_PLTREL] == DT_RELA)
    is_led &= redirect((const ElfW(Rela)*)tables[DT_JMPREL],
                       tables[DT_PLTRELSZ], symbols, names, library->l_addr);
  return is_led;
}
