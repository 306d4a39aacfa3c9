/* Batches: items that are rendered side by side, on threads of the host's own.
 *
 * Threads of Python's would hand each other the interpreter's lock before and
 * after each render; many cores wait longer for that than for their plugins. A
 * batch brings its instances with it: as many as may run at once, or more. Each
 * item is rendered from a start state, on one that is in it as long as there is
 * one, and after that on a used one, which is made anew before.
 *
 * `build_host.py` puts this file behind _host.c.
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>

/* What an item holds that was not rendered, besides what dafx_render returns:
 * none began after a failure; the plugin refused to be made anew; or it cannot
 * use its state. */
enum { DAFX_NOT_BEGUN = -3, DAFX_REFUSED = -4, DAFX_STATE_UNUSED = -5 };

/* An instance is in its start state; may have left it; or is of no more use. */
enum { DAFX_FRESH, DAFX_USED, DAFX_FAILED };

/* What is to be rendered, and what came of it. Steps are in floats; all else is
 * as of dafx_render. */
typedef struct {
  uint32_t n_items;
  const float* in;
  int64_t in_item_step, in_step, in_channel_step;
  const int64_t* in_items; /* which of `in` each takes; NULL for one each */
  float* out;
  int64_t out_item_step, out_channel_step;
  uint64_t n_samples, n_skip;
  const float* controls;
  int64_t controls_item_step;
  uint64_t n_frames, hop_size, n_warm_up;
  uint32_t n_instances; /* as many as threads, or as items, if these are fewer */
  DafxInstance** instances;
  uint8_t* conditions; /* of instances; kept up to date */
  int64_t* results;    /* of items: what dafx_render returns, or one of above */
  int64_t failed_item, failed_instance; /* the first; -1 for none */
  bool was_stopped;                     /* by who waits for it */
  uint32_t n_renewed;                   /* instances that were made anew, */
  double renewal_s;                     /* and the shortest time it took */
} DafxJob;

typedef struct DafxBatch DafxBatch;

/* Threads, and batches that they take items of, in the order of coming. Without
 * threads, each batch is rendered by who waits for it. */
typedef struct Pool {
  pthread_mutex_t mutex; /* of all below, and of the batches */
  pthread_cond_t has_work;
  pthread_cond_t is_idle; /* no one renders by himself */
  DafxBatch* first;       /* of those that have items left */
  bool ends;
  uint32_t n_wanted, n_threads; /* fewer where the system gives no more */
  uint32_t n_alone;             /* who render by themselves, at present */
  pthread_t* threads;
  struct Pool* next;
} Pool;

struct DafxBatch {
  DafxJob* job;
  Pool* pool;
  DafxBatch* next;
  pthread_cond_t has_ended;
  uint32_t n_begun, n_threads; /* items; threads that have to do with it */
  bool is_stopped;
  uint32_t n_fresh, n_used; /* instances that wait, */
  uint32_t* fresh;          /* and which these are */
  uint32_t* used;
};

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool has_items(const DafxBatch* self) {
  return !self->is_stopped && self->n_begun < self->job->n_items;
}

static bool has_ended(const DafxBatch* self) {
  return !has_items(self) && !self->n_threads;
}

/* Renders an item from a start state, and counts what that took. */
static int64_t render_one(DafxBatch* self, uint32_t item, uint32_t instance,
                          double* renewal_s) {
  const DafxJob* job = self->job;
  DafxInstance* on = job->instances[instance];
  *renewal_s = -1.0;
  if (job->conditions[instance] != DAFX_FRESH) {
    const double start_s = now_s();
    const int renewed = dafx_instance_renew(on);
    *renewal_s = now_s() - start_s;
    if (renewed == DAFX_BUSY) return DAFX_BUSY;
    if (!renewed) return DAFX_REFUSED;
    if (on->state && dafx_instance_state_problem(on)) return DAFX_STATE_UNUSED;
  }
  const int64_t from = job->in_items ? job->in_items[item] : item;
  return dafx_render(on, job->in + from * job->in_item_step, job->in_step,
                     job->in_channel_step,
                     job->out + (int64_t)item * job->out_item_step,
                     job->out_channel_step, job->n_samples, job->n_skip,
                     job->controls + (int64_t)item * job->controls_item_step,
                     job->n_frames, job->hop_size, job->n_warm_up);
}

/* Renders the next item; the mutex is held, but not while it is rendered. */
static void render_next(DafxBatch* self) {
  const uint32_t item = self->n_begun++;
  const uint32_t instance =
      self->n_fresh ? self->fresh[--self->n_fresh] : self->used[--self->n_used];
  double renewal_s;
  pthread_mutex_unlock(&self->pool->mutex);
  const int64_t result = render_one(self, item, instance, &renewal_s);
  pthread_mutex_lock(&self->pool->mutex);
  DafxJob* job = self->job;
  job->results[item] = result;
  job->conditions[instance] = DAFX_USED;
  if (renewal_s >= 0.0 && (!job->n_renewed++ || renewal_s < job->renewal_s))
    job->renewal_s = renewal_s;
  if (result >= 0) {
    self->used[self->n_used++] = instance;
    return;
  }
  job->conditions[instance] = DAFX_FAILED;
  self->is_stopped = true;
  if (job->failed_item >= 0) return;
  job->failed_item = item;
  job->failed_instance = instance;
}

/* Takes a batch that has no items left off the list. */
static void take_off(Pool* pool, const DafxBatch* batch) {
  for (DafxBatch** at = &pool->first; *at; at = &(*at)->next)
    if (*at == batch) {
      *at = batch->next;
      return;
    }
}

static void* serve(void* argument) {
  Pool* pool = argument;
  pthread_mutex_lock(&pool->mutex);
  while (!pool->ends) {
    DafxBatch* batch = pool->first;
    if (!batch) {
      pthread_cond_wait(&pool->has_work, &pool->mutex);
      continue;
    }
    ++batch->n_threads;
    while (has_items(batch) && !pool->ends) render_next(batch);
    take_off(pool, batch);
    --batch->n_threads;
    if (has_ended(batch)) pthread_cond_signal(&batch->has_ended);
  }
  pthread_mutex_unlock(&pool->mutex);
  return NULL;
}

static pthread_mutex_t pools_mutex = PTHREAD_MUTEX_INITIALIZER;
static Pool* pools = NULL; /* one for each number of threads */
static bool is_over = false; /* threads have been ended, for good, */
static pthread_t ender;      /* by this one, which alone renders since */
/* Of those who ask whether a batch goes on, at present; one may be asked while
 * another has no answer yet, by a handler of signals that renders. */
static uint32_t n_questions = 0;
static _Thread_local uint32_t n_own_questions = 0;
static pthread_cond_t is_answered = PTHREAD_COND_INITIALIZER;

/* A fork has none of the threads, nor what they were at. */
static void forget_pools(void) {
  const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
  const pthread_cond_t unheard = PTHREAD_COND_INITIALIZER;
  pools_mutex = fresh;
  is_answered = unheard;
  n_questions = n_own_questions;
  pools = NULL;
  is_over = false;
}

__attribute__((constructor)) static void prepare_pools_for_forks(void) {
  pthread_atfork(NULL, NULL, forget_pools);
}

static Pool* make_pool(uint32_t n_wanted) {
  Pool* pool = calloc(1, sizeof(*pool));
  if (!pool) return NULL;
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->has_work, NULL);
  pthread_cond_init(&pool->is_idle, NULL);
  pool->ends = is_over;
  pool->n_wanted = n_wanted;
  pool->threads = calloc(n_wanted + 1, sizeof(*pool->threads));
  /* Signals are for threads that know what to do with them. */
  static const int faults[] = {SIGSEGV, SIGBUS,  SIGFPE,
                               SIGILL,  SIGABRT, SIGTRAP};
  sigset_t all, former;
  sigfillset(&all);
  for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); ++i)
    sigdelset(&all, faults[i]);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  while (pool->threads && pool->n_threads < n_wanted &&
         !pthread_create(&pool->threads[pool->n_threads], NULL, serve, pool))
    ++pool->n_threads;
  pthread_sigmask(SIG_SETMASK, &former, NULL);
  return pool;
}

/* Returns the one with so many threads; NULL where memory ends. */
static Pool* find_pool(uint32_t n_wanted) {
  pthread_mutex_lock(&pools_mutex);
  if (is_over) n_wanted = 0;
  Pool* pool = pools;
  while (pool && pool->n_wanted != n_wanted) pool = pool->next;
  if (!pool && (pool = make_pool(n_wanted))) {
    pool->next = pools;
    pools = pool;
  }
  pthread_mutex_unlock(&pools_mutex);
  return pool;
}

/* Ends all threads, as soon as what they render has ended, and waits for who
 * renders without: a plugin that runs while the process is taken down would
 * crash it. So would who asks an interpreter that is gone. From here on,
 * batches have no end, and no one asks, but for the caller. */
void dafx_end_threads(void) {
  pthread_mutex_lock(&pools_mutex);
  const bool is_first = !is_over;
  is_over = true;
  ender = pthread_self();
  Pool* const all = pools; /* those that come later have no threads */
  pthread_mutex_unlock(&pools_mutex);
  for (Pool* pool = all; pool; pool = pool->next) {
    pthread_mutex_lock(&pool->mutex);
    pool->ends = true;
    pthread_cond_broadcast(&pool->has_work);
    pthread_mutex_unlock(&pool->mutex);
  }
  for (Pool* pool = all; pool; pool = pool->next) {
    for (uint32_t i = 0; is_first && i < pool->n_threads; ++i)
      pthread_join(pool->threads[i], NULL);
    pthread_mutex_lock(&pool->mutex);
    /* What the caller has left, it renders by itself. */
    if (is_first) pool->n_threads = 0;
    while (pool->n_alone) pthread_cond_wait(&pool->is_idle, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
  }
  pthread_mutex_lock(&pools_mutex);
  while (n_questions > n_own_questions)
    pthread_cond_wait(&is_answered, &pools_mutex);
  pthread_mutex_unlock(&pools_mutex);
}

/* Takes back so many questions of this thread's; the mutex of pools is held. */
static void take_back(uint32_t n_taken) {
  n_questions -= n_taken;
  n_own_questions -= n_taken;
  pthread_cond_broadcast(&is_answered);
}

/* Asks whether a batch goes on. After the end only the ender may ask. Who
 * would, within a question, waits for ever: that one will have no answer, and
 * the end is not to wait for it. */
static bool ask(bool (*goes_on)(void*), void* who) {
  pthread_mutex_lock(&pools_mutex);
  const bool may_ask = !is_over || pthread_equal(pthread_self(), ender);
  const bool stays = !may_ask && n_own_questions;
  if (stays) take_back(n_own_questions);
  if (may_ask) {
    ++n_questions;
    ++n_own_questions;
  }
  pthread_mutex_unlock(&pools_mutex);
  while (stays) pause();
  if (!may_ask) return true;
  const bool answer = goes_on(who);
  pthread_mutex_lock(&pools_mutex);
  take_back(1);
  pthread_mutex_unlock(&pools_mutex);
  return answer;
}

static void free_batch(DafxBatch* self) {
  free(self->fresh);
  free(self->used);
  free(self);
}

static DafxBatch* make_batch(DafxJob* job, Pool* pool) {
  DafxBatch* self = calloc(1, sizeof(*self));
  if (!self) return NULL;
  self->job = job;
  self->pool = pool;
  self->fresh = calloc(job->n_instances + 1, sizeof(uint32_t));
  self->used = calloc(job->n_instances + 1, sizeof(uint32_t));
  if (!self->fresh || !self->used) {
    free_batch(self);
    return NULL;
  }
  for (uint32_t i = 0; i < job->n_instances; ++i)
    if (job->conditions[i] == DAFX_FRESH)
      self->fresh[self->n_fresh++] = i;
    else
      self->used[self->n_used++] = i;
  for (uint32_t i = 0; i < job->n_items; ++i) job->results[i] = DAFX_NOT_BEGUN;
  job->failed_item = job->failed_instance = -1;
  job->was_stopped = false;
  job->n_renewed = 0;
  job->renewal_s = 0.0;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&self->has_ended, &monotonic);
  pthread_condattr_destroy(&monotonic);
  return self;
}

/* Has the threads take items of a batch; the mutex is held. */
static void put_on(Pool* pool, DafxBatch* batch) {
  DafxBatch** at = &pool->first;
  while (*at) at = &(*at)->next;
  *at = batch;
  const uint32_t n_items = batch->job->n_items;
  if (n_items >= pool->n_threads)
    pthread_cond_broadcast(&pool->has_work);
  else
    for (uint32_t i = 0; i < n_items; ++i)
      pthread_cond_signal(&pool->has_work);
}

/* Waits until then, or renders until then where there are no threads; the mutex
 * is held. */
static void wait_until(DafxBatch* self, double end_s) {
  Pool* pool = self->pool;
  if (!pool->n_threads &&
      (!pool->ends || pthread_equal(pthread_self(), ender))) {
    ++pool->n_alone;
    do {
      render_next(self);
    } while (has_items(self) && !pool->ends && now_s() < end_s);
    if (!--pool->n_alone) pthread_cond_broadcast(&pool->is_idle);
    return;
  }
  struct timespec end = {.tv_sec = (time_t)end_s};
  end.tv_nsec = (long)(1e9 * (end_s - (double)end.tv_sec));
  while (!has_ended(self) &&
         pthread_cond_timedwait(&self->has_ended, &pool->mutex, &end) !=
             ETIMEDOUT)
    ;
}

/* Renders a batch on so many threads; on 0, in this one. `goes_on` is asked each
 * time so many seconds have passed; when it says no, no further item begins.
 * Returns when nothing of the job is in use any more, so that whatever becomes
 * of the caller then, its memory may go; false where no memory is left. */
bool dafx_batch_run(DafxJob* job, uint32_t n_threads, double seconds,
                    bool (*goes_on)(void*), void* who) {
  Pool* pool = find_pool(n_threads);
  DafxBatch* self = pool ? make_batch(job, pool) : NULL;
  if (!self) return false;
  pthread_mutex_lock(&pool->mutex);
  if (pool->n_threads) put_on(pool, self);
  while (!has_ended(self)) {
    wait_until(self, now_s() + seconds);
    if (has_ended(self) || self->is_stopped) continue;
    pthread_mutex_unlock(&pool->mutex);
    const bool stops = !ask(goes_on, who);
    pthread_mutex_lock(&pool->mutex);
    if (stops) self->is_stopped = job->was_stopped = true;
  }
  take_off(pool, self);
  pthread_mutex_unlock(&pool->mutex);
  pthread_cond_destroy(&self->has_ended);
  free_batch(self);
  return true;
}
