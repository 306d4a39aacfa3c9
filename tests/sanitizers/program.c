/* Runs plugins by the host's C code alone, for sanitizers; `run.py` builds it.
 *
 * program URI...  Each plugin renders what differs in channels, alignment, frames
 * and lengths; then all do so on threads, on instances of their own, on a shared
 * one, and in batches.
 *
 * The process forks while they do. AddressSanitizer's allocator may be locked
 * at a fork, and stays so in the child; with it, the process forks before and
 * after, while the threads of the pools wait. ThreadSanitizer cannot follow a
 * fork of threads at all. */
#include "_memory.c"
/* The one stands on the other. */
#include "_state.c"
/* And on both: */
#include "_host.c"
/* And on all: */
#include "_batch.c"

#include <assert.h>
#include <math.h>
#include <sys/wait.h>

#ifdef __SANITIZE_THREAD__
enum { FORKS_AMID = false, FORKS_APART = false };
#elif defined(__SANITIZE_ADDRESS__)
enum { FORKS_AMID = false, FORKS_APART = true };
#else
enum { FORKS_AMID = true, FORKS_APART = true };
#endif

enum { RATE = 22050, BLOCK = 128, N_THREADS = 3, N_ROUNDS = 3, MAX_PORTS = 8 };

typedef struct {
  const LilvPlugin* plugin;
  char* library;
  char* bundle;
  uint32_t n_ports, n_in, n_out, n_controls;
  uint8_t kinds[MAX_PORTS];
  float values[MAX_PORTS];
  uint32_t atom_sizes[MAX_PORTS], control_ports[MAX_PORTS];
  uint32_t message_port; /* 0 for none */
} Plugin;

static LilvWorld* world;
static Plugin* plugins;
static int n_plugins;
/* lilv is not safe on threads; Python holds `lilv.lock` there. */
static pthread_mutex_t lilv_mutex = PTHREAD_MUTEX_INITIALIZER;

static char* path_of(const LilvNode* uri) {
  return lilv_file_uri_parse(lilv_node_as_uri(uri), NULL);
}

static void read_plugin(Plugin* of, const char* text) {
  LilvNode* uri = lilv_new_uri(world, text);
  LilvNode* audio = lilv_new_uri(world, LILV_URI_AUDIO_PORT);
  LilvNode* input = lilv_new_uri(world, LILV_URI_INPUT_PORT);
  LilvNode* atom = lilv_new_uri(world, LILV_URI_ATOM_PORT);
  memset(of, 0, sizeof(*of));
  of->plugin =
      lilv_plugins_get_by_uri(lilv_world_get_all_plugins(world), uri);
  assert(of->plugin && "no such plugin");
  of->library = path_of(lilv_plugin_get_library_uri(of->plugin));
  of->bundle = path_of(lilv_plugin_get_bundle_uri(of->plugin));
  of->n_ports = lilv_plugin_get_num_ports(of->plugin);
  assert(of->n_ports <= MAX_PORTS);
  for (uint32_t i = 0; i < of->n_ports; ++i) {
    const LilvPort* port = lilv_plugin_get_port_by_index(of->plugin, i);
    const bool is_input = lilv_port_is_a(of->plugin, port, input);
    of->atom_sizes[i] = 16;
    if (lilv_port_is_a(of->plugin, port, audio)) {
      of->kinds[i] = is_input ? DAFX_AUDIO_IN : DAFX_AUDIO_OUT;
      ++*(is_input ? &of->n_in : &of->n_out);
      continue;
    }
    if (lilv_port_is_a(of->plugin, port, atom)) {
      of->kinds[i] = is_input ? DAFX_ATOM_IN : DAFX_ATOM_OUT;
      of->atom_sizes[i] = 8192;
      of->message_port = i;
      continue;
    }
    of->kinds[i] = is_input ? DAFX_CONTROL_IN : DAFX_CONTROL_OUT;
    if (!is_input) continue;
    LilvNode* value = NULL;
    lilv_port_get_range(of->plugin, port, &value, NULL, NULL);
    of->values[i] = value ? lilv_node_as_float(value) : 0.0f;
    lilv_node_free(value);
    of->control_ports[of->n_controls++] = i;
  }
  lilv_node_free(uri);
  lilv_node_free(audio);
  lilv_node_free(input);
  lilv_node_free(atom);
}

static DafxInstance* make(const Plugin* of, bool fixed_block) {
  pthread_mutex_lock(&lilv_mutex);
  DafxInstance* instance = dafx_instance_create(
      of->plugin, of->bundle, of->library, RATE, BLOCK, fixed_block,
      of->n_ports, of->kinds, of->values, of->atom_sizes, of->n_controls,
      of->control_ports, NULL);
  pthread_mutex_unlock(&lilv_mutex);
  assert(instance);
  return instance;
}

/* Renders n_samples in arrays that end where they end, `step` apart, from an
 * address that is `offset` floats off; returns what dafx_render does. */
static int64_t render(const Plugin* of, DafxInstance* instance,
                      uint32_t n_samples, int step, int offset,
                      uint32_t n_frames, bool is_mono) {
  const size_t n_channels = is_mono ? 1 : of->n_in;
  const size_t n_in = (size_t)step * n_samples * n_channels;
  float* in = malloc((n_in + offset) * sizeof(float));
  float* copy = malloc((n_in + offset) * sizeof(float));
  float* out = malloc((of->n_out * n_samples + offset) * sizeof(float));
  float* controls = malloc(n_frames * of->n_controls * sizeof(float) + 1);
  for (size_t i = 0; i < n_in + offset; ++i)
    copy[i] = in[i] = (float)(i % 97) / 97.0f - 0.5f;
  for (uint32_t i = 0; i < n_frames * of->n_controls; ++i)
    controls[i] = of->values[of->control_ports[i % of->n_controls]];
  const uint32_t n_skip = n_samples / 7;
  const int64_t count = dafx_render(
      instance, in + offset, step, is_mono ? 0 : (int64_t)step * n_samples,
      out + offset, n_samples, n_samples, n_skip, controls, n_frames,
      n_frames ? (n_samples + n_frames - 1) / n_frames : 1, n_samples / 3);
  assert(!memcmp(in, copy, (n_in + offset) * sizeof(float)));
  free(in);
  free(copy);
  free(out);
  free(controls);
  return count;
}

static void try_all(const Plugin* of) {
  for (int fixed = 0; fixed < 2; ++fixed) {
    DafxInstance* instance = make(of, fixed);
    for (int i = 0; i < 24; ++i) {
      const uint32_t n_samples = i % 2 ? 5 * BLOCK : 3 * BLOCK + 41;
      const int64_t count = render(of, instance, n_samples, 1 + i % 3, i % 4,
                                   i % 3 * 2, i % 5 == 0);
      assert(count >= 0);
      if (i % 4 == 3) assert(dafx_instance_renew(instance) == 1);
    }
    dafx_instance_free(instance);
  }
}

/* A file and a number, by state or messages, as the plugin takes them. */
static void try_state(const Plugin* of) {
  const float trim = 0.5f;
  const char path[] = "/dev/null";
  const DafxProperty properties[] = {
      {map_uri(NULL, "urn:dafx-test:taps"), map_uri(NULL, LV2_ATOM__Path),
       sizeof(path), path},
      {map_uri(NULL, "urn:dafx-test:trim"), map_uri(NULL, LV2_ATOM__Float),
       sizeof(trim), &trim}};
  const DafxState state = {NULL, 2, properties, properties[0].type,
                           of->message_port};
  DafxInstance* instance = make(of, false);
  for (int i = 0; i < 3; ++i) {
    assert(dafx_instance_set_state(instance, &state) == 1);
    assert(!dafx_instance_state_problem(instance));
    assert(render(of, instance, 3 * BLOCK, 1, 0, 1, true) >= 0);
    const int n = dafx_instance_save(instance);
    assert(n >= 0 && !dafx_instance_saved(instance, n).key);
    for (int k = 0; k < n; ++k) assert(dafx_instance_saved(instance, k).key);
  }
  dafx_instance_free(instance);
}

static DafxInstance* common;

static void* work(void* argument) {
  (void)argument;
  for (int round = 0; round < N_ROUNDS; ++round)
    for (int i = 0; i < n_plugins; ++i) {
      DafxInstance* instance = make(&plugins[i], false);
      assert(render(&plugins[i], instance, 700, 1, 0, 2, false) >= 0);
      assert(dafx_instance_renew(instance) == 1);
      assert(render(&plugins[i], instance, 700, 2, 1, 0, true) >= 0);
      dafx_instance_free(instance);
      /* One that another may run: refused, or right. */
      const int64_t count = render(&plugins[0], common, 500, 1, 0, 1, false);
      assert(count >= 0 || count == DAFX_BUSY);
      const int renewed = dafx_instance_renew(common);
      assert(renewed == 1 || renewed == DAFX_BUSY);
    }
  return NULL;
}

static bool say(void* goes_on) { return *(bool*)goes_on; }

/* A batch of 9 items of two rows of audio, on as many threads; one item is not
 * finite where `is_bad`, and it is stopped early where `is_short`. */
static void try_batch(const Plugin* of, uint32_t n_threads, bool is_bad,
                      bool is_short) {
  enum { N_ITEMS = 9, N_SAMPLES = 700, N_INSTANCES = 4 };
  const size_t row = (size_t)N_SAMPLES * (of->n_in ? of->n_in : 1);
  float* in = malloc(2 * row * sizeof(float));
  float* out = malloc((size_t)N_ITEMS * of->n_out * N_SAMPLES * sizeof(float));
  float* controls = malloc(N_ITEMS * 2 * of->n_controls * sizeof(float) + 1);
  for (size_t i = 0; i < 2 * row; ++i) in[i] = (float)(i % 89) / 89.0f - 0.5f;
  if (is_bad) in[row + 3] = NAN;
  for (uint32_t i = 0; i < N_ITEMS * 2 * of->n_controls; ++i)
    controls[i] = of->values[of->control_ports[i % of->n_controls]];
  DafxInstance* instances[N_INSTANCES];
  uint8_t conditions[N_INSTANCES];
  for (int i = 0; i < N_INSTANCES; ++i) {
    instances[i] = make(of, false);
    conditions[i] = i % 2 ? DAFX_FRESH : DAFX_USED;
  }
  int64_t rows[N_ITEMS], results[N_ITEMS];
  for (int i = 0; i < N_ITEMS; ++i) rows[i] = i == 4;
  DafxJob job = {
      N_ITEMS, in, (int64_t)row, 1, N_SAMPLES, rows, out,
      (int64_t)of->n_out * N_SAMPLES, N_SAMPLES, N_SAMPLES, 50, controls,
      2 * of->n_controls, of->n_controls ? 2 : 0, N_SAMPLES / 2, 10,
      N_INSTANCES, instances, conditions, results, 0, 0, false, 0, 0.0};
  bool goes_on = !is_short;
  assert(dafx_batch_run(&job, n_threads, is_short ? 0.0 : 0.001, say, &goes_on));
  const bool has_failed = job.failed_item >= 0;
  assert(!has_failed || (is_bad && job.failed_item == 4));
  assert(is_short || !job.was_stopped);
  for (int i = 0; i < N_ITEMS; ++i)
    assert(results[i] >= 0 || has_failed || job.was_stopped);
  for (int i = 0; i < N_INSTANCES; ++i) dafx_instance_free(instances[i]);
  free(in);
  free(out);
  free(controls);
}

static void* work_in_batches(void* argument) {
  (void)argument;
  for (int i = 0; i < n_plugins; ++i)
    for (int round = 0; round < 8; ++round)
      try_batch(&plugins[i], round % 4 ? 3 : 0, round & 1, round & 2);
  return NULL;
}

/* A child must not wait for threads that it does not have. */
static void fork_once(void) {
  pthread_mutex_lock(&lilv_mutex); /* as `lilv` does by register_at_fork */
  const pid_t child = fork();
  if (!child) {
    pthread_mutex_init(&lilv_mutex, NULL);
    alarm(60);
    DafxInstance* instance = make(&plugins[0], false);
    const int64_t count = render(&plugins[0], instance, 500, 1, 0, 1, false);
    dafx_instance_free(instance);
    /* On no thread but this: AddressSanitizer may start none after a fork. */
    try_batch(&plugins[0], 0, false, false);
    _exit(count < 0);
  }
  pthread_mutex_unlock(&lilv_mutex);
  int status = 1;
  assert(waitpid(child, &status, 0) == child && !status);
}

static void fork_often(void) {
  for (int i = 0; i < 10; ++i) fork_once();
}

int main(int argc, char** argv) {
  world = lilv_world_new();
  lilv_world_load_all(world);
  n_plugins = argc - 1;
  plugins = calloc((size_t)argc, sizeof(*plugins));
  for (int i = 0; i < n_plugins; ++i) {
    read_plugin(&plugins[i], argv[i + 1]);
    try_all(&plugins[i]);
    if (plugins[i].message_port) try_state(&plugins[i]);
  }
  common = make(&plugins[0], false);
  if (FORKS_APART) fork_often();
  pthread_t threads[2 * N_THREADS];
  for (int i = 0; i < 2 * N_THREADS; ++i)
    assert(!pthread_create(&threads[i], NULL, i % 2 ? work : work_in_batches,
                           NULL));
  if (FORKS_AMID) fork_often();
  for (int i = 0; i < 2 * N_THREADS; ++i) pthread_join(threads[i], NULL);
  if (FORKS_APART) fork_often();
  dafx_end_threads();
  dafx_instance_free(common);
  for (int i = 0; i < n_plugins; ++i) {
    lilv_free(plugins[i].library);
    lilv_free(plugins[i].bundle);
  }
  free(plugins);
  lilv_world_free(world);
  printf("%d plugins\n", n_plugins);
  return 0;
}
