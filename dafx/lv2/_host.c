/* The part of the LV2 host that runs plugins: instances and the render loop.
 *
 * An instance owns everything that its plugin may keep a pointer to or write to:
 * features, options, control values, atom buffers and blocks of audio. What goes
 * in is copied, since plugins write to their inputs, too. What comes out is
 * written to the caller's memory where that lies as plugins want it.
 *
 * `build_host.py` puts this file behind _memory.c and _state.c.
 *
 * LV2 specification: https://lv2plug.in/ns/
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <lilv/lilv.h>
#include <lv2/atom/atom.h>
#include <lv2/atom/forge.h>
#include <lv2/buf-size/buf-size.h>
#include <lv2/core/lv2.h>
#include <lv2/log/log.h>
#include <lv2/options/options.h>
#include <lv2/parameters/parameters.h>
#include <lv2/patch/patch.h>
#include <lv2/state/state.h>
#include <lv2/urid/urid.h>
#include <lv2/worker/worker.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* Denormals ---------------------------------------------------------------- */

/* Flushes denormals to zero; returns the former mode. Decaying tails in
 * recursive filters are otherwise many times slower than sound. */
static uint64_t flush_denormals(void) {
#if defined(__SSE__)
  const unsigned int former = _mm_getcsr();
  _mm_setcsr(former | 0x8040u); /* FTZ | DAZ */
  return former;
#elif defined(__aarch64__)
  uint64_t former;
  __asm__ __volatile__("mrs %0, fpcr" : "=r"(former));
  __asm__ __volatile__("msr fpcr, %0" ::"r"(former | (1u << 24)));
  return former;
#else
  return 0;
#endif
}

static void restore_denormals(uint64_t former) {
#if defined(__SSE__)
  _mm_setcsr((unsigned int)former);
#elif defined(__aarch64__)
  __asm__ __volatile__("msr fpcr, %0" ::"r"(former));
#else
  (void)former;
#endif
}

/* URIs <-> integers, one table for the process ----------------------------- */

static pthread_mutex_t urid_mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char** urid_uris = NULL; /* urid_uris[id - 1] */
static uint32_t urid_count = 0;
static uint32_t* urid_slots = NULL; /* open addressing, 0 = empty */
static uint32_t urid_n_slots = 0;   /* a power of two */

static uint32_t hash_uri(const char* uri) {
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (; *uri; ++uri) hash = (hash ^ (uint8_t)*uri) * 16777619u;
  return hash;
}

static uint32_t find_slot(const char* uri) {
  uint32_t slot = hash_uri(uri) & (urid_n_slots - 1);
  while (urid_slots[slot] && strcmp(urid_uris[urid_slots[slot] - 1], uri))
    slot = (slot + 1) & (urid_n_slots - 1);
  return slot;
}

static bool grow_urid_table(void) {
  const uint32_t n_slots = urid_n_slots ? 2 * urid_n_slots : 1024;
  uint32_t* slots = calloc(n_slots, sizeof(*slots));
  char** uris = realloc(urid_uris, n_slots / 2 * sizeof(*uris));
  if (uris) urid_uris = uris;
  if (!slots || !uris) {
    free(slots);
    return false;
  }
  free(urid_slots);
  urid_slots = slots;
  urid_n_slots = n_slots;
  for (uint32_t id = 1; id <= urid_count; ++id)
    urid_slots[find_slot(urid_uris[id - 1])] = id;
  return true;
}

static LV2_URID map_uri(LV2_URID_Map_Handle handle, const char* uri) {
  (void)handle;
  LV2_URID id = 0;
  pthread_mutex_lock(&urid_mutex);
  if (urid_count < urid_n_slots / 2 || grow_urid_table()) {
    const uint32_t slot = find_slot(uri);
    if (!urid_slots[slot]) {
      char* copy = strdup(uri);
      if (copy) {
        urid_uris[urid_count] = copy;
        urid_slots[slot] = ++urid_count;
      }
    }
    id = urid_slots[slot];
  }
  pthread_mutex_unlock(&urid_mutex);
  return id;
}

static const char* unmap_uri(LV2_URID_Unmap_Handle handle, LV2_URID id) {
  (void)handle;
  const char* uri = NULL;
  pthread_mutex_lock(&urid_mutex);
  if (id > 0 && id <= urid_count) uri = urid_uris[id - 1];
  pthread_mutex_unlock(&urid_mutex);
  return uri;
}

static LV2_URID_Map urid_map = {NULL, map_uri};
static LV2_URID_Unmap urid_unmap = {NULL, unmap_uri};

LV2_URID_Map* dafx_urid_map(void) { return &urid_map; }
uint32_t dafx_map(const char* uri) { return map_uri(NULL, uri); }
const char* dafx_unmap(uint32_t id) { return unmap_uri(NULL, id); }

/* Log: plugins speak only when DAFX_LV2_LOG is set -------------------------- */

static int log_vprintf(LV2_Log_Handle handle, LV2_URID type, const char* format,
                       va_list arguments) {
  (void)handle;
  (void)type;
  return getenv("DAFX_LV2_LOG") ? vfprintf(stderr, format, arguments) : 0;
}

static int log_printf(LV2_Log_Handle handle, LV2_URID type, const char* format,
                      ...) {
  va_list arguments;
  va_start(arguments, format);
  const int n = log_vprintf(handle, type, format, arguments);
  va_end(arguments);
  return n;
}

static LV2_Log_Log plugin_log = {NULL, log_printf, log_vprintf};

/* Instances ---------------------------------------------------------------- */

/* What a call returns that was not carried out. */
enum { DAFX_NONFINITE = -1, DAFX_BUSY = -2 };

enum {
  DAFX_CONTROL_IN,
  DAFX_CONTROL_OUT,
  DAFX_AUDIO_IN, /* CV counts as audio here: a buffer of floats */
  DAFX_AUDIO_OUT,
  DAFX_CV_IN,
  DAFX_CV_OUT,
  DAFX_ATOM_IN,
  DAFX_ATOM_OUT,
  DAFX_UNCONNECTED
};

enum { N_FEATURES = 11, N_OPTIONS = 5 };

/* What a plugin may ask of its worker: answers that wait, and work that work
 * itself asks for. One that never has enough is refused. */
enum { MAX_RESPONSES = 4096, MAX_WORK_DEPTH = 16 };

/* What a plugin makes of a restored state it may make run by run, as LSP's load
 * their files: so many runs in a row without work, and so long, and it is done.
 */
enum { N_QUIET_RUNS = 8, MAX_SETTLING_RUNS = 4096 };
static const double SETTLING_S = 0.1;

typedef struct {
  uint32_t size;
  void* data;
} Response;

typedef struct DafxInstance {
  atomic_flag busy; /* a thread runs it */
  LilvInstance* lilv; /* keeps the library loaded */
  const LV2_Descriptor* descriptor;
  LV2_Handle handle;
  char* bundle_path;
  double sample_rate;
  uint32_t block_size;
  bool fixed_block; /* each run has just block_size samples */
  bool active;
  bool is_led; /* whether the plugin's memory comes from _memory.c */
  Heap heap;
  const LilvState* default_state;
  const DafxState* state; /* what to restore, or NULL */
  Restoring restoring;
  Saved* saved; /* by dafx_instance_save */
  uint32_t n_works; /* asked of the worker so far */
  uint32_t n_ports;
  uint8_t* kinds;
  float* values;    /* one control value per port, which the plugin sees */
  float* settings;  /* what its inputs are to be */
  float* initial;   /* the values an instance starts with */
  LV2_Atom** atoms; /* per port; NULL where it has none */
  uint32_t* atom_sizes;
  float* silence; /* block_size zeros, for inputs without audio */
  float* bin;     /* block_size samples, for outputs nobody reads */
  uint32_t n_in, n_out;
  uint32_t* in_ports; /* of audio, and out_ports likewise */
  uint32_t* out_ports;
  float* blocks; /* block_size samples for each of in_ports, then out_ports */
  size_t block_stride;
  uint32_t n_controls;
  uint32_t* control_ports; /* that renders give values for */
  uint32_t n_inputs;
  uint32_t* input_ports; /* all of its control inputs */
  bool has_atoms, has_cv;
  const LV2_Worker_Interface* worker;
  Response* responses;
  uint32_t n_responses;
  int work_depth;
  /* What features point to. */
  int32_t lengths[3];
  int32_t sequence_size;
  float option_rate;
  LV2_Options_Option options[N_OPTIONS + 1];
  LV2_Worker_Schedule schedule;
  LV2_State_Map_Path map_path;
  LV2_State_Free_Path free_path;
  LV2_Feature feature_list[N_FEATURES];
  const LV2_Feature* features[N_FEATURES + 1];
} DafxInstance;

/* Plugins share static data within their library, which not all of them guard
 * while they are created or destroyed. */
static pthread_mutex_t instantiate_mutex =
    PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

/* A fork takes both mutexes first, so that the child does not wait for a thread
 * that it does not have. It is another owner, hence new ones there. */
static void before_fork(void) {
  pthread_mutex_lock(&instantiate_mutex);
  pthread_mutex_lock(&urid_mutex);
}

static void after_fork_in_parent(void) {
  pthread_mutex_unlock(&urid_mutex);
  pthread_mutex_unlock(&instantiate_mutex);
}

static void after_fork_in_child(void) {
  const pthread_mutex_t fresh = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
  urid_mutex = instantiate_mutex = fresh;
}

__attribute__((constructor)) static void prepare_forks(void) {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* Whether the plugin's code runs in this thread: threads of its own may not ask
 * for work, nor answer, but some do. */
static bool is_inside(const DafxInstance* self) {
  return current == &self->heap;
}

/* Work is done at once, in the thread that renders; the plugin gets the answers
 * after its run, as the worker extension has it for offline rendering. */
static LV2_Worker_Status respond(LV2_Worker_Respond_Handle handle,
                                 uint32_t size, const void* data) {
  DafxInstance* self = handle;
  if (!is_inside(self)) return LV2_WORKER_ERR_UNKNOWN;
  if (self->n_responses >= MAX_RESPONSES) return LV2_WORKER_ERR_NO_SPACE;
  Response* grown = realloc(self->responses,
                            (self->n_responses + 1) * sizeof(*grown));
  if (!grown) return LV2_WORKER_ERR_NO_SPACE;
  self->responses = grown;
  void* copy = malloc(size ? size : 1);
  if (!copy) return LV2_WORKER_ERR_NO_SPACE;
  if (size) memcpy(copy, data, size);
  grown[self->n_responses++] = (Response){size, copy};
  return LV2_WORKER_SUCCESS;
}

static LV2_Worker_Status schedule_work(LV2_Worker_Schedule_Handle handle,
                                       uint32_t size, const void* data) {
  DafxInstance* self = handle;
  if (!is_inside(self) || !self->worker || !self->worker->work)
    return LV2_WORKER_ERR_UNKNOWN;
  if (self->work_depth >= MAX_WORK_DEPTH) return LV2_WORKER_ERR_NO_SPACE;
  ++self->n_works;
  ++self->work_depth;
  const LV2_Worker_Status status =
      self->worker->work(self->handle, respond, self, size, data);
  --self->work_depth;
  return status;
}

static void drop_responses(DafxInstance* self) {
  for (uint32_t i = 0; i < self->n_responses; ++i)
    free(self->responses[i].data);
  self->n_responses = 0;
}

/* Answers may ask for more work, whose answers come after the next run. */
static void deliver_responses(DafxInstance* self) {
  if (!self->worker) return;
  Response* responses = self->responses;
  const uint32_t n = self->n_responses;
  self->responses = NULL;
  self->n_responses = 0;
  for (uint32_t i = 0; i < n; ++i) {
    if (self->worker->work_response)
      self->worker->work_response(self->handle, responses[i].size,
                                  responses[i].data);
    free(responses[i].data);
  }
  free(responses);
  if (self->worker->end_run) self->worker->end_run(self->handle);
}

static char* same_path(LV2_State_Map_Path_Handle handle, const char* path) {
  (void)handle;
  return strdup(path);
}

static void free_path(LV2_State_Free_Path_Handle handle, char* path) {
  (void)handle;
  free(path);
}

static void fill_features(DafxInstance* self) {
  const LV2_URID as_int = map_uri(NULL, LV2_ATOM__Int);
  const LV2_URID as_float = map_uri(NULL, LV2_ATOM__Float);
  const char* length_keys[3] = {LV2_BUF_SIZE__minBlockLength,
                                LV2_BUF_SIZE__maxBlockLength,
                                LV2_BUF_SIZE__nominalBlockLength};
  self->lengths[0] = self->fixed_block ? (int32_t)self->block_size : 1;
  self->lengths[1] = self->lengths[2] = (int32_t)self->block_size;
  for (int i = 0; i < 3; ++i)
    self->options[i] = (LV2_Options_Option){
        LV2_OPTIONS_INSTANCE, 0, map_uri(NULL, length_keys[i]),
        sizeof(int32_t), as_int, &self->lengths[i]};
  self->options[3] = (LV2_Options_Option){
      LV2_OPTIONS_INSTANCE, 0, map_uri(NULL, LV2_BUF_SIZE__sequenceSize),
      sizeof(int32_t), as_int, &self->sequence_size};
  self->option_rate = (float)self->sample_rate;
  self->options[4] = (LV2_Options_Option){
      LV2_OPTIONS_INSTANCE, 0, map_uri(NULL, LV2_PARAMETERS__sampleRate),
      sizeof(float), as_float, &self->option_rate};

  self->schedule = (LV2_Worker_Schedule){self, schedule_work};
  self->map_path = (LV2_State_Map_Path){NULL, same_path, same_path};
  self->free_path = (LV2_State_Free_Path){NULL, free_path};
  const LV2_Feature features[N_FEATURES] = {
      {LV2_URID__map, &urid_map},
      {LV2_URID__unmap, &urid_unmap},
      {LV2_OPTIONS__options, self->options},
      {LV2_BUF_SIZE__boundedBlockLength, NULL},
      {LV2_WORKER__schedule, &self->schedule},
      {LV2_LOG__log, &plugin_log},
      {LV2_STATE__mapPath, &self->map_path},
      {LV2_STATE__freePath, &self->free_path},
      {LV2_STATE__loadDefaultState, NULL},
      {LV2_BUF_SIZE__fixedBlockLength, NULL},
      {LV2_BUF_SIZE__powerOf2BlockLength, NULL},
  };
  memcpy(self->feature_list, features, sizeof(features));
  /* The last two are a promise that is only made where it is kept. */
  const bool power_of_2 = !(self->block_size & (self->block_size - 1));
  const int n = N_FEATURES - (self->fixed_block ? !power_of_2 : 2);
  for (int i = 0; i < n; ++i) self->features[i] = &self->feature_list[i];
}

static void connect_ports(DafxInstance* self) {
  for (uint32_t i = 0; i < self->n_ports; ++i) {
    void* data = NULL;
    switch (self->kinds[i]) {
      case DAFX_CONTROL_IN:
      case DAFX_CONTROL_OUT:
        data = &self->values[i];
        break;
      case DAFX_AUDIO_IN:
      case DAFX_CV_IN:
        data = self->silence;
        break;
      case DAFX_AUDIO_OUT:
      case DAFX_CV_OUT:
        data = self->bin;
        break;
      case DAFX_ATOM_IN:
      case DAFX_ATOM_OUT:
        data = self->atoms[i];
        break;
    }
    self->descriptor->connect_port(self->handle, i, data);
  }
}

static void activate(DafxInstance* self) {
  if (!self->active && self->descriptor->activate)
    self->descriptor->activate(self->handle);
  self->active = true;
}

static void deactivate(DafxInstance* self) {
  if (self->active && self->descriptor->deactivate)
    self->descriptor->deactivate(self->handle);
  self->active = false;
}

/* What is the thread's, and which some plugins change and leave so. */
typedef struct {
  uint64_t floats; /* how it rounds, and what becomes of denormals */
  sigset_t signals; /* that it blocks */
} Mode;

/* Before and after a plugin's code runs in this thread. */
static Mode enter(DafxInstance* self) {
  Mode mode;
  pthread_sigmask(SIG_SETMASK, NULL, &mode.signals);
  current = &self->heap;
  mode.floats = flush_denormals();
  return mode;
}

static void leave(Mode mode) {
  restore_denormals(mode.floats);
  current = NULL;
  pthread_sigmask(SIG_SETMASK, &mode.signals, NULL);
}

/* The current folder, to come back to where a plugin leaves it; -1 if it cannot
 * be opened. */
static int open_folder(void) {
  return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void come_back(int folder) {
  if (folder < 0) return;
  const int failed = fchdir(folder);
  (void)failed; /* it was the current one, and is open */
  close(folder);
}

static void settle(DafxInstance* self);

static void begin_life(DafxInstance* self) {
  self->worker = self->descriptor->extension_data
                     ? self->descriptor->extension_data(LV2_WORKER__interface)
                     : NULL;
  memcpy(self->values, self->initial, self->n_ports * sizeof(float));
  memcpy(self->settings, self->initial, self->n_ports * sizeof(float));
  connect_ports(self);
  if (self->default_state) {
    LilvInstance view = {self->descriptor, self->handle, self->lilv->pimpl};
    lilv_state_restore(self->default_state, &view, leave_port_value, NULL, 0,
                       self->features);
  }
  if (self->state)
    restore_state(&self->restoring, self->state, self->descriptor,
                  self->handle, self->lilv->pimpl, self->features);
  activate(self);
  if (self->state && !self->restoring.problem) settle(self);
}

static void clean_nothing(LV2_Handle handle) { (void)handle; }

static void free_lilv(DafxInstance* self) {
  /* A plugin that refused to be renewed has nothing to clean up, and some have
   * no way to; lilv calls it all the same. */
  static const LV2_Descriptor nothing = {.cleanup = clean_nothing};
  if (!self->handle || !self->descriptor->cleanup)
    self->lilv->lv2_descriptor = &nothing;
  self->lilv->lv2_handle = self->handle;
  lilv_instance_free(self->lilv);
}

/* Lends the instance to this thread; false where another has it. */
static bool seize(DafxInstance* self) {
  return !atomic_flag_test_and_set_explicit(&self->busy, memory_order_acquire);
}

static void release(DafxInstance* self) {
  atomic_flag_clear_explicit(&self->busy, memory_order_release);
}

/* One that another thread runs is left as it is. */
void dafx_instance_free(DafxInstance* self) {
  if (!self || !seize(self)) return;
  if (self->lilv) {
    const Mode mode = enter(self);
    deactivate(self);
    pthread_mutex_lock(&instantiate_mutex);
    free_lilv(self);
    pthread_mutex_unlock(&instantiate_mutex);
    leave(mode);
  }
  drop_responses(self);
  free(self->responses);
  free_saved(&self->saved);
  if (self->atoms)
    for (uint32_t i = 0; i < self->n_ports; ++i) free(self->atoms[i]);
  free(self->atoms);
  free(self->atom_sizes);
  free(self->bundle_path);
  free(self->kinds);
  free(self->values);
  free(self->settings);
  free(self->initial);
  free(self->input_ports);
  free(self->silence);
  free(self->bin);
  free(self->in_ports);
  free(self->out_ports);
  free(self->control_ports);
  free(self->blocks);
  free(self);
}

/* Makes an active instance, or NULL where the plugin refuses or memory ends.
 * `values`: what its control ports hold at the start. `control_ports`: those
 * that renders give values for. */
DafxInstance* dafx_instance_create(
    const LilvPlugin* plugin, const char* bundle_path, const char* library_path,
    double sample_rate, uint32_t block_size, bool fixed_block, uint32_t n_ports,
    const uint8_t* kinds, const float* values, const uint32_t* atom_sizes,
    uint32_t n_controls, const uint32_t* control_ports,
    const LilvState* default_state) {
  DafxInstance* self = calloc(1, sizeof(*self));
  if (!self) return NULL;
  self->sample_rate = sample_rate;
  self->block_size = block_size;
  self->fixed_block = fixed_block;
  self->default_state = default_state;
  self->n_ports = n_ports;
  self->n_controls = n_controls;
  self->sequence_size = 8192;
  const size_t n = n_ports ? n_ports : 1;
  self->bundle_path = strdup(bundle_path);
  self->kinds = malloc(n);
  self->values = calloc(n, sizeof(float));
  self->settings = calloc(n, sizeof(float));
  self->initial = calloc(n, sizeof(float));
  self->input_ports = calloc(n, sizeof(uint32_t));
  self->atoms = calloc(n, sizeof(*self->atoms));
  self->atom_sizes = calloc(n, sizeof(uint32_t));
  self->in_ports = calloc(n, sizeof(uint32_t));
  self->out_ports = calloc(n, sizeof(uint32_t));
  self->control_ports = calloc(n_controls + 1, sizeof(uint32_t));
  self->silence = calloc(block_size, sizeof(float));
  self->bin = calloc(block_size, sizeof(float));
  bool complete = self->bundle_path && self->kinds && self->values &&
                  self->settings && self->initial && self->input_ports &&
                  self->atoms && self->atom_sizes &&
                  self->in_ports && self->out_ports && self->control_ports &&
                  self->silence && self->bin;
  for (uint32_t i = 0; complete && i < n_ports; ++i) {
    self->kinds[i] = kinds[i];
    self->initial[i] = values[i];
    self->atom_sizes[i] = atom_sizes[i];
    if (kinds[i] == DAFX_CONTROL_IN) self->input_ports[self->n_inputs++] = i;
    if (kinds[i] == DAFX_CV_IN) self->has_cv = true;
    if (kinds[i] == DAFX_AUDIO_IN) self->in_ports[self->n_in++] = i;
    if (kinds[i] == DAFX_AUDIO_OUT) self->out_ports[self->n_out++] = i;
    if (kinds[i] == DAFX_ATOM_IN || kinds[i] == DAFX_ATOM_OUT) {
      self->has_atoms = true;
      self->atoms[i] = calloc(1, atom_sizes[i]);
      complete = self->atoms[i] != NULL;
    }
  }
  if (complete) {
    memcpy(self->control_ports, control_ports, n_controls * sizeof(uint32_t));
    self->block_stride = ((size_t)block_size + 15) / 16 * 16;
    const size_t n_blocks = self->n_in + self->n_out;
    self->blocks = aligned_alloc(
        64, (n_blocks ? n_blocks : 1) * self->block_stride * sizeof(float));
    complete = self->blocks != NULL;
  }
  if (complete) {
    fill_features(self);
    const Mode mode = enter(self);
    pthread_mutex_lock(&instantiate_mutex);
    self->is_led = prepare_library(library_path);
    begin_heap(&self->heap);
    const int folder = open_folder();
    self->lilv = lilv_plugin_instantiate(plugin, sample_rate, self->features);
    come_back(folder);
    pthread_mutex_unlock(&instantiate_mutex);
    if (self->lilv) {
      self->descriptor = self->lilv->lv2_descriptor;
      self->handle = self->lilv->lv2_handle;
      begin_life(self);
    }
    leave(mode);
  }
  if (!self->lilv) {
    dafx_instance_free(self);
    return NULL;
  }
  return self;
}

/* Replaces the plugin's handle by a new one, in its start state. Returns 1; 0,
 * and leaves none, where the plugin refuses; or DAFX_BUSY, having done nothing,
 * where another thread runs it. */
int dafx_instance_renew(DafxInstance* self) {
  if (!seize(self)) return DAFX_BUSY;
  const Mode mode = enter(self);
  deactivate(self);
  pthread_mutex_lock(&instantiate_mutex);
  if (self->handle && self->descriptor->cleanup)
    self->descriptor->cleanup(self->handle);
  self->handle = NULL; /* what it asks for from here on is not the old one's */
  self->worker = NULL;
  drop_responses(self);
  for (uint32_t i = 0; i < self->n_ports; ++i)
    if (self->atoms[i]) memset(self->atoms[i], 0, self->atom_sizes[i]);
  begin_heap(&self->heap);
  const int folder = open_folder();
  self->handle = self->descriptor->instantiate(
      self->descriptor, self->sample_rate, self->bundle_path, self->features);
  come_back(folder);
  pthread_mutex_unlock(&instantiate_mutex);
  const bool is_made = self->handle != NULL;
  if (is_made) begin_life(self);
  leave(mode);
  release(self);
  return is_made;
}

/* Renews it, and has it begin with a state from now on, which must outlive it.
 * Returns what dafx_instance_renew does; dafx_instance_state_problem says what
 * became of the state, then and after each renewal. */
int dafx_instance_set_state(DafxInstance* self, const DafxState* state) {
  self->state = state;
  return dafx_instance_renew(self);
}

int dafx_instance_state_problem(const DafxInstance* self) {
  return self->restoring.problem;
}

/* What the plugin's restore returned. */
int dafx_instance_state_status(const DafxInstance* self) {
  return self->restoring.status;
}

/* The file of a state that is not there. */
const char* dafx_instance_state_path(const DafxInstance* self) {
  return self->restoring.path;
}

/* The key that the plugin asked for at place i, a URID; 0 behind the last. */
uint32_t dafx_instance_state_asked(const DafxInstance* self, uint32_t i) {
  return i < self->restoring.n_asked ? self->restoring.asked[i] : 0;
}

/* Asks the plugin for all that it keeps now, as hosts save it. Returns how many
 * properties there are, 0 of a plugin that keeps no state; or DAFX_BUSY, where
 * another thread runs it. */
int dafx_instance_save(DafxInstance* self) {
  if (!seize(self)) return DAFX_BUSY;
  free_saved(&self->saved);
  const LV2_State_Interface* interface =
      self->handle && self->descriptor->extension_data
          ? self->descriptor->extension_data(LV2_STATE__interface)
          : NULL;
  if (interface && interface->save) {
    const Mode mode = enter(self);
    interface->save(self->handle, store, &self->saved, 0, self->features);
    leave(mode);
  }
  int n = 0;
  for (const Saved* one = self->saved; one; one = one->next) ++n;
  release(self);
  return n;
}

/* Property i of those of dafx_instance_save, which live until it is called
 * again. */
DafxProperty dafx_instance_saved(const DafxInstance* self, uint32_t i) {
  const Saved* one = self->saved;
  while (one && i--) one = one->next;
  if (!one) return (DafxProperty){0, 0, 0, NULL};
  return (DafxProperty){one->key, one->type, (uint32_t)one->size, one->value};
}

bool dafx_instance_is_led(const DafxInstance* self) { return self->is_led; }

uint64_t dafx_instance_n_bytes(const DafxInstance* self) {
  return self->heap.n_bytes;
}

float dafx_instance_value(const DafxInstance* self, uint32_t port) {
  return self->values[port];
}

/* Rendering ---------------------------------------------------------------- */

static LV2_URID sequence_urid, chunk_urid;

static void map_atom_types(void) {
  sequence_urid = map_uri(NULL, LV2_ATOM__Sequence);
  chunk_urid = map_uri(NULL, LV2_ATOM__Chunk);
}

static void prepare_atoms(DafxInstance* self) {
  static pthread_once_t are_mapped = PTHREAD_ONCE_INIT;
  pthread_once(&are_mapped, map_atom_types);
  for (uint32_t i = 0; i < self->n_ports; ++i) {
    if (self->kinds[i] == DAFX_ATOM_IN) {
      LV2_Atom_Sequence* events = (LV2_Atom_Sequence*)self->atoms[i];
      events->atom.size = sizeof(LV2_Atom_Sequence_Body);
      events->atom.type = sequence_urid;
      events->body.unit = 0;
      events->body.pad = 0;
    } else if (self->kinds[i] == DAFX_ATOM_OUT) {
      self->atoms[i]->size = self->atom_sizes[i] - sizeof(LV2_Atom);
      self->atoms[i]->type = chunk_urid;
    }
  }
}

/* Writes a patch:Set for each property of the state into the port for them. */
static void write_messages(DafxInstance* self) {
  const DafxState* state = self->state;
  const uint32_t port = state->message_port;
  LV2_Atom_Forge forge;
  LV2_Atom_Forge_Frame sequence, object;
  lv2_atom_forge_init(&forge, &urid_map);
  lv2_atom_forge_set_buffer(&forge, (uint8_t*)self->atoms[port],
                            self->atom_sizes[port]);
  lv2_atom_forge_sequence_head(&forge, &sequence, 0);
  for (uint32_t i = 0; i < state->n_properties; ++i) {
    const DafxProperty* property = &state->properties[i];
    lv2_atom_forge_frame_time(&forge, 0);
    lv2_atom_forge_object(&forge, &object, 0, map_uri(NULL, LV2_PATCH__Set));
    lv2_atom_forge_key(&forge, map_uri(NULL, LV2_PATCH__property));
    lv2_atom_forge_urid(&forge, property->key);
    lv2_atom_forge_key(&forge, map_uri(NULL, LV2_PATCH__value));
    lv2_atom_forge_atom(&forge, property->size, property->type);
    lv2_atom_forge_write(&forge, property->value, property->size);
    lv2_atom_forge_pop(&forge, &object);
  }
  lv2_atom_forge_pop(&forge, &sequence);
}

static void run(DafxInstance* self, uint32_t n_samples) {
  if (self->has_atoms) prepare_atoms(self);
  if (self->restoring.by_messages) {
    write_messages(self);
    self->restoring.by_messages = false;
  }
  if (self->has_cv) memset(self->silence, 0, n_samples * sizeof(float));
  for (uint32_t i = 0; i < self->n_inputs; ++i) {
    const uint32_t port = self->input_ports[i];
    self->values[port] = self->settings[port];
  }
  self->descriptor->run(self->handle, n_samples);
  deliver_responses(self);
}

static void set_controls(DafxInstance* self, const float* values) {
  for (uint32_t k = 0; k < self->n_controls; ++k)
    self->settings[self->control_ports[k]] = values[k];
}

static void connect_to_nothing(DafxInstance* self) {
  for (uint32_t c = 0; c < self->n_in; ++c)
    self->descriptor->connect_port(self->handle, self->in_ports[c],
                                   self->silence);
  for (uint32_t c = 0; c < self->n_out; ++c)
    self->descriptor->connect_port(self->handle, self->out_ports[c],
                                   self->bin);
}

static void warm_up(DafxInstance* self, uint64_t n_samples) {
  connect_to_nothing(self);
  for (uint64_t start = 0; start < n_samples; start += self->block_size) {
    const uint64_t left = n_samples - start;
    memset(self->silence, 0, self->block_size * sizeof(float));
    run(self, left < self->block_size && !self->fixed_block ? (uint32_t)left
                                                           : self->block_size);
  }
}

/* Runs silence until the plugin has made of a state what it makes of it. */
static void settle(DafxInstance* self) {
  uint32_t n_quiet = 0;
  double seconds = 0.0;
  for (uint32_t i = 0; i < MAX_SETTLING_RUNS; ++i) {
    const uint32_t n_works = self->n_works;
    warm_up(self, self->block_size);
    seconds += self->block_size / self->sample_rate;
    n_quiet = self->n_works == n_works ? n_quiet + 1 : 0;
    if (n_quiet >= N_QUIET_RUNS && seconds >= SETTLING_S) break;
  }
}

/* Plugins may ask of buffers what SSE does. */
static bool is_aligned(const float* samples) {
  return !((uintptr_t)samples & 15);
}

static void copy_strided(float* to, const float* from, int64_t step,
                         uint64_t n_samples) {
  if (step == 1)
    memcpy(to, from, n_samples * sizeof(float));
  else if (step == 2) /* stereo: a loop that vectorises */
    for (uint64_t i = 0; i < n_samples; ++i) to[i] = from[2 * i];
  else
    for (uint64_t i = 0; i < n_samples; ++i) to[i] = from[(int64_t)i * step];
}

static inline bool is_nonfinite(float sample) {
  uint32_t bits; /* all of the exponent is set: asked of integers, as fast
                    arithmetic may take it for granted that there are none */
  memcpy(&bits, &sample, sizeof(bits));
  return (bits & 0x7f800000u) == 0x7f800000u;
}

/* ThreadSanitizer does not bear the choice that is made at the start. */
#if defined(__x86_64__) && defined(__gnu_linux__) && \
    !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("avx2", "default")))
#endif
static bool any_nonfinite(const float* samples, uint64_t n_samples) {
  uint32_t any = 0; /* a loop that vectorises */
  for (uint64_t i = 0; i < n_samples; ++i) any |= is_nonfinite(samples[i]);
  return any;
}

/* Zeroes samples that are not finite; returns how many there were. */
static int64_t zero_nonfinite(float* samples, uint64_t n_samples) {
  int64_t count = 0;
  if (!any_nonfinite(samples, n_samples)) return 0;
  for (uint64_t i = 0; i < n_samples; ++i)
    if (is_nonfinite(samples[i])) {
      samples[i] = 0.0f;
      ++count;
    }
  return count;
}

/* What one call renders; see `dafx_render`. */
typedef struct {
  const float* in;
  int64_t in_step, in_channel_step;
  float* out;
  int64_t out_channel_step;
  uint64_t n_samples, n_skip;
} Item;

static void connect_inputs(DafxInstance* self) {
  for (uint32_t c = 0; c < self->n_in; ++c)
    self->descriptor->connect_port(self->handle, self->in_ports[c],
                                   self->blocks + c * self->block_stride);
}

/* Copies n_run samples from `start` on into the inputs' own blocks; what lies
 * behind the item's end is silence. Returns whether all are finite. */
static bool fill_inputs(DafxInstance* self, const Item* item, uint64_t start,
                        uint32_t n_run) {
  uint64_t n_given = start < item->n_samples ? item->n_samples - start : 0;
  if (n_given > n_run) n_given = n_run;
  for (uint32_t c = 0; c < self->n_in; ++c) {
    float* block = self->blocks + c * self->block_stride;
    if (n_given)
      copy_strided(block,
                   item->in + c * item->in_channel_step +
                       (int64_t)start * item->in_step,
                   item->in_step, n_given);
    memset(block + n_given, 0, (n_run - n_given) * sizeof(float));
    /* One channel for all inputs is seen to once. */
    if ((!c || item->in_channel_step) && any_nonfinite(block, n_given))
      return false;
  }
  return true;
}

/* Runs the plugin once, on `n_run` samples from `start` on, of which `n` are
 * the item's. Returns the number of its samples that were not finite, or
 * DAFX_NONFINITE, not having run, where one that goes in is not. */
static int64_t run_block(DafxInstance* self, const Item* item, uint64_t start,
                          uint32_t n, uint32_t n_run) {
  if (!fill_inputs(self, item, start, n_run)) return DAFX_NONFINITE;
  /* The first n_skip samples are dropped. */
  const uint64_t n_dropped = start >= item->n_skip       ? 0
                             : item->n_skip - start >= n ? n
                                                         : item->n_skip - start;
  const int64_t at = (int64_t)(start + n_dropped - item->n_skip);
  const bool whole = !n_dropped && n == n_run;
  for (uint32_t c = 0; c < self->n_out; ++c) {
    float* block = self->blocks + (self->n_in + c) * self->block_stride;
    float* to = item->out + c * item->out_channel_step + at;
    if (whole && is_aligned(to)) block = to;
    /* Some plugins add to what they find, or write nothing. */
    memset(block, 0, n_run * sizeof(float));
    self->descriptor->connect_port(self->handle, self->out_ports[c], block);
  }
  run(self, n_run);
  int64_t n_nonfinite = 0;
  if (n_dropped == n) return n_nonfinite;
  for (uint32_t c = 0; c < self->n_out; ++c) {
    const float* block = self->blocks + (self->n_in + c) * self->block_stride;
    float* to = item->out + c * item->out_channel_step + at;
    if (!whole || !is_aligned(to))
      memcpy(to, block + n_dropped, (n - n_dropped) * sizeof(float));
    n_nonfinite += zero_nonfinite(to, n - n_dropped);
  }
  return n_nonfinite;
}

/* Renders one item under a control trajectory.
 *
 * in: sample t of channel c lies at in[c * in_channel_step + t * in_step]; with
 * in_channel_step = 0, one channel feeds all inputs. out: sample t of channel c
 * goes to out[c * out_channel_step + t]. The plugin's first n_skip samples are
 * dropped, and as much silence follows the input. controls: values [n_frames,
 * n_controls] in port units, frame t from sample t * hop_size of the input on,
 * the last one to the end. n_warm_up samples of silence go before, under the
 * first frame. Returns the number of non-finite samples, which are zeroed;
 * DAFX_NONFINITE, having stopped there, where a sample that goes in is not
 * finite; or DAFX_BUSY, having done nothing, where another thread runs it. */
int64_t dafx_render(DafxInstance* self, const float* in, int64_t in_step,
                     int64_t in_channel_step, float* out,
                     int64_t out_channel_step, uint64_t n_samples,
                     uint64_t n_skip, const float* controls, uint64_t n_frames,
                     uint64_t hop_size, uint64_t n_warm_up) {
  if (!seize(self)) return DAFX_BUSY;
  const Mode mode = enter(self);
  const Item item = {in,        in_step, in_channel_step, out, out_channel_step,
                     n_samples, n_skip};
  const uint32_t block_size = self->block_size;

  if (n_frames) set_controls(self, controls);
  if (n_warm_up) warm_up(self, n_warm_up);
  connect_inputs(self);
  int64_t n_nonfinite = 0;
  const uint64_t n_total = n_samples + n_skip;
  for (uint64_t start = 0; start < n_total && n_nonfinite >= 0;) {
    uint64_t end = n_total;
    if (n_frames) {
      uint64_t frame = start / hop_size;
      if (frame >= n_frames) frame = n_frames - 1;
      set_controls(self, controls + frame * self->n_controls);
      if (frame + 1 < n_frames && (frame + 1) * hop_size < end &&
          !self->fixed_block)
        end = (frame + 1) * hop_size;
    }
    while (start < end) {
      const uint64_t left = end - start;
      const uint32_t n = left < block_size ? (uint32_t)left : block_size;
      const int64_t count = run_block(self, &item, start, n,
                                      self->fixed_block ? block_size : n);
      n_nonfinite = count < 0 ? count : n_nonfinite + count;
      start += n;
      if (count < 0) break;
      if (self->fixed_block) break; /* controls may change at each block */
    }
  }
  connect_to_nothing(self); /* no pointer to the caller's audio stays behind */
  leave(mode);
  release(self);
  return n_nonfinite;
}
