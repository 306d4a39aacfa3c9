/* An LV2 plugin that sleeps: one processor stands for many; see simulated.py. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include <lv2/core/lv2.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int n_busy = 0;
static double began_s, busy_s = 0.0, rendering_s = 0.0;

/* The time that all instances have slept, added. */
double sleeper_busy_s(void) { return busy_s; }

/* The time in which at least one of them slept. */
double sleeper_rendering_s(void) { return rendering_s; }

void sleeper_reset(void) { busy_s = rendering_s = 0.0; }

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static LV2_Handle instantiate(const LV2_Descriptor* descriptor, double rate,
                              const char* path,
                              const LV2_Feature* const* features) {
  (void)descriptor, (void)rate, (void)path, (void)features;
  return calloc(3, sizeof(float*));
}

static void connect_port(LV2_Handle handle, uint32_t port, void* data) {
  ((float**)handle)[port] = data;
}

/* A thread that stands for a core of its own need not wait for one: where that
 * is allowed, it goes before all that works. */
static void go_first(void) {
  static __thread int is_set = 0;
  const struct sched_param first = {.sched_priority = 1};
  if (!is_set++) pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
}

static void run(LV2_Handle handle, uint32_t n_samples) {
  (void)n_samples;
  go_first();
  const double seconds = *((float**)handle)[2];
  const struct timespec pause = {(time_t)seconds,
                                 (long)(1e9 * (seconds - (long)seconds))};
  pthread_mutex_lock(&mutex);
  if (!n_busy++) began_s = now_s();
  pthread_mutex_unlock(&mutex);
  nanosleep(&pause, NULL);
  pthread_mutex_lock(&mutex);
  busy_s += seconds; /* not what waking up takes */
  if (!--n_busy) rendering_s += now_s() - began_s;
  pthread_mutex_unlock(&mutex);
}

static const LV2_Descriptor sleeper = {
    "urn:dafx-benchmark:sleeper", instantiate, connect_port, NULL, run, NULL,
    free, NULL};

LV2_SYMBOL_EXPORT const LV2_Descriptor* lv2_descriptor(uint32_t index) {
  return index ? NULL : &sleeper;
}
