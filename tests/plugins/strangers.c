/* Plugins that do what plugins may not, and a host must bear, for the tests.
 *
 * Ports as in plugins.c; all give out = amount * in. "single" has one instance in
 * the life of the process; "fickle" has none while DAFX_TEST_REFUSE is set;
 * "together" is silent unless three run at the same time; "restless" asks for work in a thread of its own, too,
 * until it is cleaned up; "endless" reports a latency of 3e9 samples; "rootless"
 * has no cleanup; "wanderer" changes the current folder, which signals the thread
 * blocks, and how it rounds. */
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <lv2/core/lv2.h>
#include <lv2/worker/worker.h>

#define PREFIX "urn:dafx-test:"

typedef struct {
  void* ports[4];
  const LV2_Worker_Schedule* schedule;
  pthread_t thread;
  _Atomic int is_over;
} Stranger;

static LV2_Handle instantiate(const LV2_Descriptor* descriptor, double rate,
                              const char* path,
                              const LV2_Feature* const* features) {
  (void)descriptor, (void)rate, (void)path;
  Stranger* self = calloc(1, sizeof(*self));
  for (; *features; ++features)
    if (!strcmp((*features)->URI, LV2_WORKER__schedule))
      self->schedule = (*features)->data;
  return self;
}

static LV2_Handle instantiate_once(const LV2_Descriptor* descriptor,
                                   double rate, const char* path,
                                   const LV2_Feature* const* features) {
  static int n_made = 0;
  return n_made++ ? NULL : instantiate(descriptor, rate, path, features);
}

static LV2_Handle instantiate_while_told(const LV2_Descriptor* descriptor,
                                         double rate, const char* path,
                                         const LV2_Feature* const* features) {
  return getenv("DAFX_TEST_REFUSE")
             ? NULL
             : instantiate(descriptor, rate, path, features);
}

static void ask(Stranger* self) {
  self->schedule->schedule_work(self->schedule->handle, 1, "");
}

static LV2_Handle instantiate_away(const LV2_Descriptor* descriptor,
                                   double rate, const char* path,
                                   const LV2_Feature* const* features) {
  return chdir("/") ? NULL : instantiate(descriptor, rate, path, features);
}

static void* keep_asking(void* argument) {
  Stranger* self = argument;
  while (!self->is_over) {
    ask(self);
    usleep(10);
  }
  return NULL;
}

static LV2_Handle instantiate_restless(const LV2_Descriptor* descriptor,
                                       double rate, const char* path,
                                       const LV2_Feature* const* features) {
  Stranger* self = instantiate(descriptor, rate, path, features);
  pthread_create(&self->thread, NULL, keep_asking, self);
  return self;
}

static void connect_port(LV2_Handle handle, uint32_t port, void* data) {
  ((Stranger*)handle)->ports[port] = data;
}

static void run(LV2_Handle handle, uint32_t n) {
  Stranger* self = handle;
  const float* in = self->ports[0];
  float* out = self->ports[1];
  const float amount = *(const float*)self->ports[2];
  for (uint32_t i = 0; i < n; ++i) out[i] = amount * in[i];
  *(float*)self->ports[3] = 0.0f;
}

static void run_restless(LV2_Handle handle, uint32_t n) {
  run(handle, n);
  ask(handle);
}

static void run_wanderer(LV2_Handle handle, uint32_t n) {
  sigset_t all;
  sigfillset(&all);
  run(handle, n);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  fesetround(FE_DOWNWARD);
}

static void run_endless(LV2_Handle handle, uint32_t n) {
  run(handle, n);
  *(float*)((Stranger*)handle)->ports[3] = 3e9f;
}

static void run_together(LV2_Handle handle, uint32_t n) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t have_met = PTHREAD_COND_INITIALIZER;
  static int n_waiting = 0, n_meetings = 0;
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += 30;
  pthread_mutex_lock(&mutex);
  const int before = n_meetings;
  if (++n_waiting == 3) {
    n_waiting = 0;
    ++n_meetings;
    pthread_cond_broadcast(&have_met);
  }
  while (n_meetings == before &&
         pthread_cond_timedwait(&have_met, &mutex, &end) != ETIMEDOUT)
    ;
  const int has_met = n_meetings != before;
  pthread_mutex_unlock(&mutex);
  run(handle, n);
  if (!has_met) memset(((Stranger*)handle)->ports[1], 0, n * sizeof(float));
}

static void cleanup_restless(LV2_Handle handle) {
  Stranger* self = handle;
  self->is_over = 1;
  pthread_join(self->thread, NULL);
  free(self);
}

static LV2_Worker_Status work(LV2_Handle handle,
                              LV2_Worker_Respond_Function respond,
                              LV2_Worker_Respond_Handle to, uint32_t size,
                              const void* data) {
  (void)handle;
  return respond(to, size, data);
}

static LV2_Worker_Status work_response(LV2_Handle handle, uint32_t size,
                                       const void* data) {
  (void)handle, (void)size, (void)data;
  return LV2_WORKER_SUCCESS;
}

static const void* worker_extension(const char* uri) {
  static const LV2_Worker_Interface interface = {work, work_response, NULL};
  return strcmp(uri, LV2_WORKER__interface) ? NULL : &interface;
}

static const LV2_Descriptor descriptors[] = {
    {PREFIX "single", instantiate_once, connect_port, NULL, run, NULL, free,
     NULL},
    {PREFIX "fickle", instantiate_while_told, connect_port, NULL, run, NULL,
     free, NULL},
    {PREFIX "together", instantiate, connect_port, NULL, run_together, NULL,
     free, NULL},
    {PREFIX "restless", instantiate_restless, connect_port, NULL, run_restless,
     NULL, cleanup_restless, worker_extension},
    {PREFIX "endless", instantiate, connect_port, NULL, run_endless, NULL, free,
     NULL},
    {PREFIX "wanderer", instantiate_away, connect_port, NULL, run_wanderer, NULL,
     free, NULL},
    {PREFIX "rootless", instantiate, connect_port, NULL, run, NULL, NULL, NULL},
};

LV2_SYMBOL_EXPORT const LV2_Descriptor* lv2_descriptor(uint32_t index) {
  return index < sizeof(descriptors) / sizeof(*descriptors)
             ? &descriptors[index]
             : NULL;
}
