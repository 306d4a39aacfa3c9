/* Small LV2 plugins whose behaviour is known in closed form, for the tests.
 *
 * All have the ports: 0 in, 1 out (audio), 2 amount (control in), 3 report
 * (control out); "cross" also 4 in_right, 5 out_right; "modal" and "brittle"
 * also 4 mode; "keyed" also 4 key (audio in). */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <lv2/atom/atom.h>
#include <lv2/buf-size/buf-size.h>
#include <lv2/core/lv2.h>
#include <lv2/options/options.h>
#include <lv2/urid/urid.h>
#include <lv2/worker/worker.h>

#define PREFIX "urn:dafx-test:"
#define DELAY 37

typedef struct {
  void* ports[6];
  double rate;
  float state;
  float line[DELAY];
  uint32_t at;
  float max_block;
  float answer;
  const LV2_Worker_Schedule* schedule;
  float* memory;
  volatile int n_inside;
} Plugin;

enum { N_MEMORY = 1000 };

/* What instances of "shared" have in common, while there are any. */
static float* table = NULL;
static int n_users = 0;

static LV2_Handle instantiate(const LV2_Descriptor* descriptor, double rate,
                              const char* path,
                              const LV2_Feature* const* features) {
  (void)path;
  if (!strcmp(descriptor->URI, PREFIX "fussy") && rate > 96000) return NULL;
  Plugin* self = calloc(1, sizeof(*self));
  if (!strcmp(descriptor->URI, PREFIX "slow")) usleep(5000);
  self->rate = rate;
  const LV2_URID_Map* map = NULL;
  const LV2_Options_Option* options = NULL;
  for (; *features; ++features) {
    const char* uri = (*features)->URI;
    if (!strcmp(uri, LV2_URID__map)) map = (*features)->data;
    if (!strcmp(uri, LV2_OPTIONS__options)) options = (*features)->data;
    if (!strcmp(uri, LV2_WORKER__schedule)) self->schedule = (*features)->data;
  }
  if (map && options) {
    const LV2_URID key = map->map(map->handle, LV2_BUF_SIZE__maxBlockLength);
    for (; options->key; ++options)
      if (options->key == key)
        self->max_block = (float)*(const int32_t*)options->value;
  }
  if (!strcmp(descriptor->URI, PREFIX "hidden")) /* not from malloc */
    self->memory = mmap(NULL, N_MEMORY * sizeof(float), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!strcmp(descriptor->URI, PREFIX "uninitialised"))
    self->memory = malloc(N_MEMORY * sizeof(float));
  if (!strcmp(descriptor->URI, PREFIX "shared")) {
    if (!n_users++) table = calloc(N_MEMORY, sizeof(float));
    self->memory = table;
  }
  return self;
}

static void connect_port(LV2_Handle handle, uint32_t port, void* data) {
  ((Plugin*)handle)->ports[port] = data;
}

static void cleanup(LV2_Handle handle) { free(handle); }

static void cleanup_memory(LV2_Handle handle) {
  free(((Plugin*)handle)->memory);
  free(handle);
}

static void cleanup_shared(LV2_Handle handle) {
  if (!--n_users) free(table);
  if (!n_users) table = NULL;
  free(handle);
}

static void cleanup_hidden(LV2_Handle handle) {
  munmap(((Plugin*)handle)->memory, N_MEMORY * sizeof(float));
  free(handle);
}

#define RUN(name)                                             \
  static void run_##name(LV2_Handle handle, uint32_t n) {     \
    Plugin* self = handle;                                    \
    const float* in = self->ports[0];                         \
    float* out = self->ports[1];                              \
    const float amount = *(const float*)self->ports[2];       \
    float* report = self->ports[3];                           \
    *report = 0.0f;                                           \
    (void)in, (void)out, (void)amount;                        \
    for (uint32_t i = 0; i < n; ++i)

/* out = amount * in */
RUN(gain) { out[i] = amount * in[i]; } }

/* out = in^2 * amount: not linear in the audio */
RUN(square) { out[i] = amount * in[i] * in[i]; } }

/* A one-pole smoother; its state outlives deactivate and activate. */
RUN(onepole) {
  self->state = (1.0f - amount) * in[i] + amount * self->state;
  out[i] = self->state;
} }

/* A delay of 37 samples; "late" reports it. */
RUN(delay) {
  const float x = in[i];
  out[i] = amount * self->line[self->at];
  self->line[self->at] = x;
  self->at = (self->at + 1) % DELAY;
}
  *report = DELAY;
}

/* A delay of `amount` whole samples, which it reports. */
RUN(ahead) {
  self->line[self->at] = in[i];
  out[i] = self->line[(self->at + DELAY - (int)amount) % DELAY];
  self->at = (self->at + 1) % DELAY;
}
  *report = (float)(int)amount;
}

/* Adds what memory that nobody wrote held, then leaves something there. */
RUN(uninitialised) {
  out[i] = in[i] + self->memory[i % N_MEMORY];
  self->memory[i % N_MEMORY] = 1.0f;
} }

/* amount * rand() */
RUN(random) { out[i] = amount * (float)rand(); } }

/* As onepole, its state in memory that is not from malloc ("hidden") or that it
 * takes in its first run ("grows"). */
RUN(hidden) {
  self->memory[0] = (1.0f - amount) * in[i] + amount * self->memory[0];
  out[i] = self->memory[0];
} }

static void run_grows(LV2_Handle handle, uint32_t n) {
  Plugin* self = handle;
  if (!self->memory) self->memory = malloc(N_MEMORY * sizeof(float));
  run_hidden(handle, n);
}

/* NaN and infinity above 1, else in. */
RUN(nan) { out[i] = amount <= 1.0f ? in[i] : i % 2 ? NAN : INFINITY; } }

/* The number of samples in this run, and the amount in this run. */
RUN(block) { out[i] = (float)n + amount; } }

/* The longest block that the host has announced. */
RUN(options) { out[i] = self->max_block; } }

/* Twice the first sample of the run before, worked out by the worker. */
RUN(worker) { out[i] = self->answer; }
  if (self->schedule)
    self->schedule->schedule_work(self->schedule->handle, sizeof(float), in);
}

/* Four ways to take a host down, from amount 1, 2, 3 and 4 on; else in. */
RUN(fatal) { out[i] = in[i]; }
  if (amount >= 4.0f) for (;;) self->state += 1.0f;
  if (amount >= 3.0f) exit(3);
  if (amount >= 2.0f) abort();
  if (amount >= 1.0f) *(volatile int*)0 = 1;
}

/* amount * in. It dies of samples above 10, hangs at those below -10, and from an
 * amount of 1.05 on and in mode 2 it dies of those above 1. */
RUN(brittle) {
  const int is_set = amount > 1.05f || *(const float*)self->ports[4] == 2.0f;
  if (in[i] > 10.0f || (in[i] > 1.0f && is_set)) *(volatile int*)0 = 1;
  if (in[i] < -10.0f) for (;;) self->state += 1.0f;
  out[i] = amount * in[i];
} }

/* out_left = in_left + amount * in_right and the other way round */
RUN(cross) {
  const float* right = self->ports[4];
  const float l = in[i], r = right[i];
  out[i] = l + amount * r;
  ((float*)self->ports[5])[i] = r + amount * l;
} }

/* in + amount * key, a side chain */
RUN(keyed) { out[i] = in[i] + amount * ((const float*)self->ports[4])[i]; } }

/* out = amount * in, upside down in mode 1, halved in mode 2 */
RUN(modal) {
  const float mode = *(const float*)self->ports[4];
  out[i] = amount * in[i] * (mode == 1.0f ? -1.0f : mode == 2.0f ? 0.5f : 1.0f);
} }

static LV2_Worker_Status work(LV2_Handle handle,
                              LV2_Worker_Respond_Function respond,
                              LV2_Worker_Respond_Handle to, uint32_t size,
                              const void* data) {
  (void)handle;
  float value;
  memcpy(&value, data, sizeof(value));
  value *= 2.0f;
  return respond(to, size, &value);
}

static LV2_Worker_Status work_response(LV2_Handle handle, uint32_t size,
                                       const void* data) {
  memcpy(&((Plugin*)handle)->answer, data, size);
  return LV2_WORKER_SUCCESS;
}

/* The number of answers that it got before this run. The first run asks for
 * work, and each answer for more: for `amount` jobs; with 0, the work itself asks
 * for work, without end. */
static void ask(Plugin* self, int n_jobs) {
  const int job = n_jobs;
  for (int i = 0; i < (n_jobs ? n_jobs : 1); ++i)
    self->schedule->schedule_work(self->schedule->handle, sizeof(job), &job);
}

RUN(chain) { out[i] = self->answer; }
  if (!self->at++) ask(self, (int)amount);
}

static LV2_Worker_Status chain_work(LV2_Handle handle,
                                    LV2_Worker_Respond_Function respond,
                                    LV2_Worker_Respond_Handle to, uint32_t size,
                                    const void* data) {
  if (!*(const int*)data) ask(handle, 0);
  return respond(to, size, data);
}

static LV2_Worker_Status chain_response(LV2_Handle handle, uint32_t size,
                                        const void* data) {
  Plugin* self = handle;
  int n_jobs;
  memcpy(&n_jobs, data, sizeof(n_jobs));
  self->answer += 1.0f;
  for (int i = 0; i < 10; ++i) free(malloc(16 * i)); /* moves what is free */
  if (n_jobs) ask(self, n_jobs);
  return memcmp(&n_jobs, data, size) ? LV2_WORKER_ERR_UNKNOWN
                                     : LV2_WORKER_SUCCESS;
}

static const void* chain_extension(const char* uri) {
  static const LV2_Worker_Interface interface = {chain_work, chain_response,
                                                 NULL};
  return strcmp(uri, LV2_WORKER__interface) ? NULL : &interface;
}

/* out = amount * in; then it spoils its inputs, audio and control. */
RUN(scribble) {
  out[i] = amount * in[i];
  ((float*)in)[i] = 7.0f;
}
  *(float*)self->ports[2] = 3.0f;
}

/* out = gains[amount] * in: what is out of range reads what is not the table. */
RUN(table) {
  static const float gains[5] = {0.25f, 0.5f, 1.0f, 2.0f, 4.0f};
  out[i] = gains[(int)amount] * in[i];
} }

/* Sums its input up; NaN from when two threads are in one instance at once. */
RUN(careful) {
  self->state += in[i];
  out[i] = self->state;
}
  if (self->n_inside++) self->state = NAN;
  usleep(1000);
  self->n_inside--;
}

static const void* worker_extension(const char* uri) {
  static const LV2_Worker_Interface interface = {work, work_response, NULL};
  return strcmp(uri, LV2_WORKER__interface) ? NULL : &interface;
}

#define DESCRIPTOR(name, run) \
  {PREFIX name, instantiate, connect_port, NULL, run, NULL, cleanup, NULL}

static const LV2_Descriptor descriptors[] = {
    DESCRIPTOR("gain", run_gain),       DESCRIPTOR("square", run_square),
    DESCRIPTOR("onepole", run_onepole), DESCRIPTOR("delay", run_delay),
    DESCRIPTOR("late", run_delay),      DESCRIPTOR("nan", run_nan),
    DESCRIPTOR("block", run_block),     DESCRIPTOR("fixed", run_block),
    DESCRIPTOR("options", run_options), DESCRIPTOR("cross", run_cross),
    DESCRIPTOR("fatal", run_fatal),     DESCRIPTOR("tuned", run_block),
    DESCRIPTOR("alien", run_gain),      DESCRIPTOR("fussy", run_gain),
    DESCRIPTOR("random", run_random),   DESCRIPTOR("stepped", run_gain),
    DESCRIPTOR("modal", run_modal),     DESCRIPTOR("scribble", run_scribble),
    DESCRIPTOR("table", run_table),     DESCRIPTOR("careful", run_careful),
    DESCRIPTOR("slow", run_gain),       DESCRIPTOR("ahead", run_ahead),
    DESCRIPTOR("brittle", run_brittle), DESCRIPTOR("keyed", run_keyed),
    {PREFIX "chain", instantiate, connect_port, NULL, run_chain, NULL, cleanup,
     chain_extension},
    {PREFIX "uninitialised", instantiate, connect_port, NULL,
     run_uninitialised, NULL, cleanup_memory, NULL},
    {PREFIX "shared", instantiate, connect_port, NULL, run_gain, NULL,
     cleanup_shared, NULL},
    {PREFIX "hidden", instantiate, connect_port, NULL, run_hidden, NULL,
     cleanup_hidden, NULL},
    {PREFIX "grows", instantiate, connect_port, NULL, run_grows, NULL,
     cleanup_memory, NULL},
    {PREFIX "worker", instantiate, connect_port, NULL, run_worker, NULL,
     cleanup, worker_extension},
};

LV2_SYMBOL_EXPORT const LV2_Descriptor* lv2_descriptor(uint32_t index) {
  return index < sizeof(descriptors) / sizeof(*descriptors)
             ? &descriptors[index]
             : NULL;
}
