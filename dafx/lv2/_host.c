/* The part of the LV2 host that runs plugins: instances and the render loop.
 *
 * An instance owns everything that its plugin may keep a pointer to: features,
 * options, control values and atom buffers. Audio buffers belong to the caller
 * and are connected anew for each run, so audio is never copied here.
 *
 * LV2 specification: https://lv2plug.in/ns/
 */
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lilv/lilv.h>
#include <lv2/atom/atom.h>
#include <lv2/buf-size/buf-size.h>
#include <lv2/core/lv2.h>
#include <lv2/log/log.h>
#include <lv2/options/options.h>
#include <lv2/parameters/parameters.h>
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

static pthread_mutex_t urid_mutex = PTHREAD_MUTEX_INITIALIZER;
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

typedef struct {
  uint32_t size;
  void* data;
} Response;

typedef struct DafxInstance {
  LilvInstance* lilv; /* keeps the library loaded */
  const LV2_Descriptor* descriptor;
  LV2_Handle handle;
  char* bundle_path;
  double sample_rate;
  uint32_t block_size;
  bool fixed_block; /* each run has just block_size samples */
  bool active;
  const LilvState* default_state;
  uint32_t n_ports;
  uint8_t* kinds;
  float* values;    /* one control value per port */
  float* initial;   /* the values an instance starts with */
  LV2_Atom** atoms; /* per port; NULL where it has none */
  uint32_t* atom_sizes;
  float* silence; /* block_size zeros, for inputs without audio */
  float* bin;     /* block_size samples, for outputs nobody reads */
  float* padded;  /* buffers of fixed blocks, n_ports * block_size */
  const LV2_Worker_Interface* worker;
  Response* responses;
  uint32_t n_responses;
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
static pthread_mutex_t instantiate_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Work is done at once, in the thread that renders; the plugin gets the answers
 * after its run, as the worker extension has it for offline rendering. */
static LV2_Worker_Status respond(LV2_Worker_Respond_Handle handle,
                                 uint32_t size, const void* data) {
  DafxInstance* self = handle;
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
  if (!self->worker || !self->worker->work) return LV2_WORKER_ERR_UNKNOWN;
  return self->worker->work(self->handle, respond, self, size, data);
}

static void deliver_responses(DafxInstance* self) {
  if (!self->worker) return;
  for (uint32_t i = 0; i < self->n_responses; ++i) {
    Response* response = &self->responses[i];
    if (self->worker->work_response)
      self->worker->work_response(self->handle, response->size,
                                  response->data);
    free(response->data);
  }
  self->n_responses = 0;
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

static void set_port_value(const char* symbol, void* user_data,
                           const void* value, uint32_t size, uint32_t type) {
  /* Control values come from the caller; a default state sets the rest. */
  (void)symbol;
  (void)user_data;
  (void)value;
  (void)size;
  (void)type;
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

static void begin_life(DafxInstance* self) {
  self->worker = self->descriptor->extension_data
                     ? self->descriptor->extension_data(LV2_WORKER__interface)
                     : NULL;
  memcpy(self->values, self->initial, self->n_ports * sizeof(float));
  connect_ports(self);
  if (self->default_state) {
    LilvInstance view = {self->descriptor, self->handle, self->lilv->pimpl};
    lilv_state_restore(self->default_state, &view, set_port_value, NULL, 0,
                       self->features);
  }
  activate(self);
}

void dafx_instance_free(DafxInstance* self) {
  if (!self) return;
  if (self->lilv) {
    const uint64_t mode = flush_denormals();
    deactivate(self);
    pthread_mutex_lock(&instantiate_mutex);
    self->lilv->lv2_handle = self->handle;
    lilv_instance_free(self->lilv);
    pthread_mutex_unlock(&instantiate_mutex);
    restore_denormals(mode);
  }
  for (uint32_t i = 0; i < self->n_responses; ++i)
    free(self->responses[i].data);
  free(self->responses);
  if (self->atoms)
    for (uint32_t i = 0; i < self->n_ports; ++i) free(self->atoms[i]);
  free(self->atoms);
  free(self->atom_sizes);
  free(self->bundle_path);
  free(self->kinds);
  free(self->values);
  free(self->initial);
  free(self->silence);
  free(self->bin);
  free(self->padded);
  free(self);
}

/* Makes an active instance, or NULL where the plugin refuses or memory ends.
 * `values`: what its control ports hold at the start. */
DafxInstance* dafx_instance_new(const LilvPlugin* plugin,
                                const char* bundle_path, double sample_rate,
                                uint32_t block_size, bool fixed_block,
                                uint32_t n_ports, const uint8_t* kinds,
                                const float* values,
                                const uint32_t* atom_sizes,
                                const LilvState* default_state) {
  DafxInstance* self = calloc(1, sizeof(*self));
  if (!self) return NULL;
  self->sample_rate = sample_rate;
  self->block_size = block_size;
  self->fixed_block = fixed_block;
  self->default_state = default_state;
  self->n_ports = n_ports;
  self->sequence_size = 8192;
  const size_t n = n_ports ? n_ports : 1;
  self->bundle_path = strdup(bundle_path);
  self->kinds = malloc(n);
  self->values = calloc(n, sizeof(float));
  self->initial = calloc(n, sizeof(float));
  self->atoms = calloc(n, sizeof(*self->atoms));
  self->atom_sizes = calloc(n, sizeof(uint32_t));
  self->silence = calloc(block_size, sizeof(float));
  self->bin = calloc(block_size, sizeof(float));
  self->padded = fixed_block ? calloc(n * block_size, sizeof(float)) : NULL;
  bool complete = self->bundle_path && self->kinds && self->values &&
                  self->initial && self->atoms && self->atom_sizes &&
                  self->silence && self->bin && (self->padded || !fixed_block);
  for (uint32_t i = 0; complete && i < n_ports; ++i) {
    self->kinds[i] = kinds[i];
    self->initial[i] = values[i];
    self->atom_sizes[i] = atom_sizes[i];
    if (kinds[i] == DAFX_ATOM_IN || kinds[i] == DAFX_ATOM_OUT) {
      self->atoms[i] = calloc(1, atom_sizes[i]);
      complete = self->atoms[i] != NULL;
    }
  }
  if (complete) {
    fill_features(self);
    const uint64_t mode = flush_denormals();
    pthread_mutex_lock(&instantiate_mutex);
    self->lilv = lilv_plugin_instantiate(plugin, sample_rate, self->features);
    pthread_mutex_unlock(&instantiate_mutex);
    if (self->lilv) {
      self->descriptor = self->lilv->lv2_descriptor;
      self->handle = self->lilv->lv2_handle;
      begin_life(self);
    }
    restore_denormals(mode);
  }
  if (!self->lilv) {
    dafx_instance_free(self);
    return NULL;
  }
  return self;
}

/* Replaces the plugin's handle by a new one: the surest fresh state. Returns
 * false, and leaves the former handle, where the plugin refuses. */
bool dafx_instance_renew(DafxInstance* self) {
  const uint64_t mode = flush_denormals();
  const LV2_Handle former = self->handle;
  pthread_mutex_lock(&instantiate_mutex);
  const LV2_Handle handle = self->descriptor->instantiate(
      self->descriptor, self->sample_rate, self->bundle_path, self->features);
  pthread_mutex_unlock(&instantiate_mutex);
  if (handle) {
    deactivate(self);
    pthread_mutex_lock(&instantiate_mutex);
    if (self->descriptor->cleanup) self->descriptor->cleanup(former);
    pthread_mutex_unlock(&instantiate_mutex);
    self->handle = handle;
    begin_life(self);
  }
  restore_denormals(mode);
  return handle != NULL;
}

/* The standard's way to reset: deactivate, activate, first control values. */
void dafx_instance_reactivate(DafxInstance* self) {
  const uint64_t mode = flush_denormals();
  deactivate(self);
  memcpy(self->values, self->initial, self->n_ports * sizeof(float));
  activate(self);
  restore_denormals(mode);
}

float dafx_instance_value(const DafxInstance* self, uint32_t port) {
  return self->values[port];
}

/* Rendering ---------------------------------------------------------------- */

static void prepare_atoms(DafxInstance* self) {
  static LV2_URID sequence = 0, chunk = 0;
  if (!sequence) {
    chunk = map_uri(NULL, LV2_ATOM__Chunk);
    sequence = map_uri(NULL, LV2_ATOM__Sequence);
  }
  for (uint32_t i = 0; i < self->n_ports; ++i) {
    if (self->kinds[i] == DAFX_ATOM_IN) {
      LV2_Atom_Sequence* events = (LV2_Atom_Sequence*)self->atoms[i];
      events->atom.size = sizeof(LV2_Atom_Sequence_Body);
      events->atom.type = sequence;
      events->body.unit = 0;
      events->body.pad = 0;
    } else if (self->kinds[i] == DAFX_ATOM_OUT) {
      self->atoms[i]->size = self->atom_sizes[i] - sizeof(LV2_Atom);
      self->atoms[i]->type = chunk;
    }
  }
}

static void run(DafxInstance* self, bool has_atoms, uint32_t n_samples) {
  if (has_atoms) prepare_atoms(self);
  self->descriptor->run(self->handle, n_samples);
  deliver_responses(self);
}

/* One run with fewer samples than a fixed block: the block is filled up with
 * silence, and the rest of the output is dropped. */
static void run_padded(DafxInstance* self, bool has_atoms, uint32_t n_in,
                       const uint32_t* in_ports, const float* const* in,
                       uint32_t n_out, const uint32_t* out_ports,
                       float* const* out, uint64_t start, uint32_t n_samples) {
  const size_t bytes = n_samples * sizeof(float);
  for (uint32_t c = 0; c < n_in; ++c) {
    float* buffer = self->padded + (size_t)in_ports[c] * self->block_size;
    memset(buffer, 0, self->block_size * sizeof(float));
    memcpy(buffer, in[c] + start, bytes);
    self->descriptor->connect_port(self->handle, in_ports[c], buffer);
  }
  for (uint32_t c = 0; c < n_out; ++c)
    self->descriptor->connect_port(
        self->handle, out_ports[c],
        self->padded + (size_t)out_ports[c] * self->block_size);
  run(self, has_atoms, self->block_size);
  for (uint32_t c = 0; c < n_out; ++c)
    memcpy(out[c] + start,
           self->padded + (size_t)out_ports[c] * self->block_size, bytes);
}

/* Zeroes samples that are not finite; returns how many there were. */
static uint64_t zero_nonfinite(float* samples, uint64_t n_samples) {
  /* All exponent bits set, asked of integers: a loop that vectorises. */
  uint32_t any = 0;
  for (uint64_t i = 0; i < n_samples; ++i) {
    uint32_t bits;
    memcpy(&bits, &samples[i], sizeof(bits));
    any |= (bits & 0x7f800000u) == 0x7f800000u;
  }
  if (!any) return 0;
  uint64_t count = 0;
  for (uint64_t i = 0; i < n_samples; ++i)
    if (!isfinite(samples[i])) {
      samples[i] = 0.0f;
      ++count;
    }
  return count;
}

/* Renders one item under a control trajectory.
 *
 * in: n_in pointers to n_samples each; out: n_out alike. controls: values
 * [n_frames, n_controls] in port units, frame t from sample t * hop_size on, the
 * last one to the end. n_warm_up samples of silence go before, under the first
 * frame. Returns the number of non-finite output samples, which are zeroed. */
uint64_t dafx_render(DafxInstance* self, uint32_t n_in,
                     const uint32_t* in_ports, const float* const* in,
                     uint32_t n_out, const uint32_t* out_ports,
                     float* const* out, uint64_t n_samples,
                     uint32_t n_controls, const uint32_t* control_ports,
                     const float* controls, uint64_t n_frames,
                     uint64_t hop_size, uint64_t n_warm_up) {
  const uint64_t mode = flush_denormals();
  const LV2_Descriptor* descriptor = self->descriptor;
  bool has_atoms = false;
  for (uint32_t i = 0; i < self->n_ports; ++i) has_atoms |= !!self->atoms[i];

  for (uint32_t k = 0; n_frames && k < n_controls; ++k)
    self->values[control_ports[k]] = controls[k];
  for (uint64_t start = 0; start < n_warm_up; start += self->block_size) {
    const uint64_t left = n_warm_up - start;
    if (!start)
      for (uint32_t c = 0; c < n_in; ++c)
        descriptor->connect_port(self->handle, in_ports[c], self->silence);
    if (!start)
      for (uint32_t c = 0; c < n_out; ++c)
        descriptor->connect_port(self->handle, out_ports[c], self->bin);
    run(self, has_atoms,
        left < self->block_size && !self->fixed_block ? (uint32_t)left
                                                      : self->block_size);
  }

  for (uint64_t start = 0; start < n_samples;) {
    uint64_t end = n_samples;
    if (n_frames) {
      uint64_t frame = start / hop_size;
      if (frame >= n_frames) frame = n_frames - 1;
      for (uint32_t k = 0; k < n_controls; ++k)
        self->values[control_ports[k]] = controls[frame * n_controls + k];
      if (frame + 1 < n_frames && (frame + 1) * hop_size < end &&
          !self->fixed_block)
        end = (frame + 1) * hop_size;
    }
    while (start < end) {
      const uint64_t left = end - start;
      const uint32_t n =
          left < self->block_size ? (uint32_t)left : self->block_size;
      if (self->fixed_block && n < self->block_size) {
        run_padded(self, has_atoms, n_in, in_ports, in, n_out, out_ports, out,
                   start, n);
      } else {
        for (uint32_t c = 0; c < n_in; ++c)
          descriptor->connect_port(self->handle, in_ports[c],
                                   (void*)(in[c] + start));
        for (uint32_t c = 0; c < n_out; ++c)
          descriptor->connect_port(self->handle, out_ports[c], out[c] + start);
        run(self, has_atoms, n);
      }
      start += n;
      if (self->fixed_block) break; /* controls may change at each block */
    }
  }
  /* No pointer to the caller's audio stays behind. */
  for (uint32_t c = 0; c < n_in; ++c)
    descriptor->connect_port(self->handle, in_ports[c], self->silence);
  for (uint32_t c = 0; c < n_out; ++c)
    descriptor->connect_port(self->handle, out_ports[c], self->bin);

  uint64_t n_nonfinite = 0;
  for (uint32_t c = 0; c < n_out; ++c)
    n_nonfinite += zero_nonfinite(out[c], n_samples);
  restore_denormals(mode);
  return n_nonfinite;
}
