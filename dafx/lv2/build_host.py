"""Builds `dafx.lv2._host`: cffi (API mode) over lilv and our own C.

That is `_memory.c`, `_state.c`, `_host.c` and `_batch.c`, in this order.
`setup.py` calls it (`cffi_modules`). It needs a C compiler, pkg-config and the
headers of lilv and LV2 (Debian: `apt-get install liblilv-dev lv2-dev`).

Never `ffibuilder.compile()` in this folder: cffi writes its own `_host.c`.
"""

import pathlib
import shutil
import subprocess

import cffi

_DECLARATIONS = """
/* lilv: what dafx/lv2/lilv.py reads. */
typedef struct LilvWorldImpl LilvWorld;
typedef struct LilvNodeImpl LilvNode;
typedef struct LilvPluginImpl LilvPlugin;
typedef struct LilvPortImpl LilvPort;
typedef struct LilvStateImpl LilvState;
typedef void LilvPlugins;
typedef void LilvPluginClass;
typedef void LilvNodes;
typedef void LilvScalePoints;
typedef void LilvScalePoint;
typedef void LilvIter;
typedef struct { ...; } LV2_URID_Map;

LilvWorld* lilv_world_new(void);
void lilv_world_free(LilvWorld*);
void lilv_world_load_all(LilvWorld*);
int lilv_world_load_resource(LilvWorld*, const LilvNode*);
int lilv_world_unload_resource(LilvWorld*, const LilvNode*);
const LilvPlugins* lilv_world_get_all_plugins(const LilvWorld*);
LilvNodes* lilv_world_find_nodes(LilvWorld*, const LilvNode*, const LilvNode*,
                                 const LilvNode*);

LilvNode* lilv_new_uri(LilvWorld*, const char*);
void lilv_node_free(LilvNode*);
void lilv_free(void*);
const char* lilv_node_as_string(const LilvNode*);
bool lilv_node_is_uri(const LilvNode*);
bool lilv_node_is_float(const LilvNode*);
bool lilv_node_is_int(const LilvNode*);
float lilv_node_as_float(const LilvNode*);
char* lilv_file_uri_parse(const char*, char**);

LilvIter* lilv_plugins_begin(const LilvPlugins*);
LilvIter* lilv_plugins_next(const LilvPlugins*, LilvIter*);
bool lilv_plugins_is_end(const LilvPlugins*, LilvIter*);
const LilvPlugin* lilv_plugins_get(const LilvPlugins*, LilvIter*);
const LilvPlugin* lilv_plugins_get_by_uri(const LilvPlugins*,
                                          const LilvNode*);
LilvIter* lilv_nodes_begin(const LilvNodes*);
LilvIter* lilv_nodes_next(const LilvNodes*, LilvIter*);
bool lilv_nodes_is_end(const LilvNodes*, LilvIter*);
const LilvNode* lilv_nodes_get(const LilvNodes*, LilvIter*);
void lilv_nodes_free(LilvNodes*);

const LilvNode* lilv_plugin_get_uri(const LilvPlugin*);
const LilvNode* lilv_plugin_get_bundle_uri(const LilvPlugin*);
const LilvNode* lilv_plugin_get_library_uri(const LilvPlugin*);
LilvNode* lilv_plugin_get_name(const LilvPlugin*);
LilvNode* lilv_plugin_get_author_name(const LilvPlugin*);
const LilvPluginClass* lilv_plugin_get_class(const LilvPlugin*);
const LilvNode* lilv_plugin_class_get_label(const LilvPluginClass*);
LilvNodes* lilv_plugin_get_required_features(const LilvPlugin*);
LilvNodes* lilv_plugin_get_value(const LilvPlugin*, const LilvNode*);
bool lilv_plugin_has_feature(const LilvPlugin*, const LilvNode*);
LilvNodes* lilv_plugin_get_related(const LilvPlugin*, const LilvNode*);
uint32_t lilv_plugin_get_num_ports(const LilvPlugin*);
const LilvPort* lilv_plugin_get_port_by_index(const LilvPlugin*, uint32_t);

const LilvNode* lilv_port_get_symbol(const LilvPlugin*, const LilvPort*);
LilvNode* lilv_port_get_name(const LilvPlugin*, const LilvPort*);
bool lilv_port_is_a(const LilvPlugin*, const LilvPort*, const LilvNode*);
bool lilv_port_has_property(const LilvPlugin*, const LilvPort*,
                            const LilvNode*);
void lilv_port_get_range(const LilvPlugin*, const LilvPort*, LilvNode**,
                         LilvNode**, LilvNode**);
LilvNode* lilv_port_get(const LilvPlugin*, const LilvPort*, const LilvNode*);
LilvScalePoints* lilv_port_get_scale_points(const LilvPlugin*,
                                            const LilvPort*);
LilvIter* lilv_scale_points_begin(const LilvScalePoints*);
LilvIter* lilv_scale_points_next(const LilvScalePoints*, LilvIter*);
bool lilv_scale_points_is_end(const LilvScalePoints*, LilvIter*);
const LilvScalePoint* lilv_scale_points_get(const LilvScalePoints*,
                                            LilvIter*);
void lilv_scale_points_free(LilvScalePoints*);
const LilvNode* lilv_scale_point_get_label(const LilvScalePoint*);
const LilvNode* lilv_scale_point_get_value(const LilvScalePoint*);

LilvState* lilv_state_new_from_world(LilvWorld*, LV2_URID_Map*,
                                     const LilvNode*);
void lilv_state_free(LilvState*);

/* dafx/lv2/_host.c, which stands on _memory.c and _state.c */
typedef struct DafxInstance DafxInstance;
enum { DAFX_NONFINITE = -1, DAFX_BUSY = -2 };
enum {
  DAFX_CONTROL_IN, DAFX_CONTROL_OUT, DAFX_AUDIO_IN, DAFX_AUDIO_OUT,
  DAFX_CV_IN, DAFX_CV_OUT, DAFX_ATOM_IN, DAFX_ATOM_OUT, DAFX_UNCONNECTED
};
enum {
  DAFX_STATE_FINE, DAFX_STATE_NO_INTERFACE, DAFX_STATE_REFUSED,
  DAFX_STATE_NOT_READ, DAFX_STATE_NO_FILE
};
typedef struct {
  uint32_t key, type, size;
  const void* value;
} DafxProperty;
typedef struct {
  const LilvState* preset;
  uint32_t n_properties;
  const DafxProperty* properties;
  uint32_t path_type, message_port;
} DafxState;
LV2_URID_Map* dafx_urid_map(void);
uint32_t dafx_map(const char* uri);
const char* dafx_unmap(uint32_t id);
DafxInstance* dafx_instance_create(const LilvPlugin*, const char* bundle_path,
                                   const char* library_path,
                                   double sample_rate, uint32_t block_size,
                                   bool fixed_block, uint32_t n_ports,
                                   const uint8_t* kinds, const float* values,
                                   const uint32_t* atom_sizes,
                                   uint32_t n_controls,
                                   const uint32_t* control_ports,
                                   const LilvState* default_state);
int dafx_instance_set_state(DafxInstance*, const DafxState*);
void dafx_instance_free(DafxInstance*);
int dafx_instance_renew(DafxInstance*);
int dafx_instance_state_problem(const DafxInstance*);
int dafx_instance_state_status(const DafxInstance*);
const char* dafx_instance_state_path(const DafxInstance*);
uint32_t dafx_instance_state_asked(const DafxInstance*, uint32_t i);
int dafx_instance_save(DafxInstance*);
DafxProperty dafx_instance_saved(const DafxInstance*, uint32_t i);
bool dafx_instance_is_led(const DafxInstance*);
uint64_t dafx_instance_n_bytes(const DafxInstance*);
float dafx_instance_value(const DafxInstance*, uint32_t port);
int64_t dafx_render(DafxInstance*, const float* in, int64_t in_step,
                     int64_t in_channel_step, float* out,
                     int64_t out_channel_step, uint64_t n_samples,
                     uint64_t n_skip, const float* controls, uint64_t n_frames,
                     uint64_t hop_size, uint64_t n_warm_up);

/* dafx/lv2/_batch.c */
enum { DAFX_NOT_BEGUN = -3, DAFX_REFUSED = -4, DAFX_STATE_UNUSED = -5 };
enum { DAFX_FRESH, DAFX_USED, DAFX_FAILED };
typedef struct {
  uint32_t n_items;
  const float* in;
  int64_t in_item_step, in_step, in_channel_step;
  const int64_t* in_items;
  float* out;
  int64_t out_item_step, out_channel_step;
  uint64_t n_samples, n_skip;
  const float* controls;
  int64_t controls_item_step;
  uint64_t n_frames, hop_size, n_warm_up;
  uint32_t n_instances;
  DafxInstance** instances;
  uint8_t* conditions;
  int64_t* results;
  int64_t failed_item, failed_instance;
  bool was_stopped;
  uint32_t n_renewed;
  double renewal_s;
} DafxJob;
bool dafx_batch_run(DafxJob*, uint32_t n_threads, double seconds,
                    bool (*goes_on)(void*), void* who);
void dafx_end_threads(void);
extern "Python" bool dafx_goes_on(void* who); /* in batches.py */
"""


# As Ubuntu's compiler does by itself: writes beyond what was asked for end the
# process, and they do so in the tests of every system.
_FORTIFY = ('-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=3')


def _pkg_config(option: str) -> list[str]:
  """Returns what pkg-config says of lilv and LV2."""
  if not shutil.which('pkg-config'):
    raise RuntimeError(
      'Building dafx needs pkg-config, lilv and LV2. On Debian or Ubuntu: '
      'apt-get install gcc pkg-config liblilv-dev lv2-dev'
    )
  result = subprocess.run(
    ['pkg-config', option, 'lilv-0', 'lv2'],
    capture_output=True,
    text=True,
    check=False,
  )
  if result.returncode:
    raise RuntimeError(
      f'Building dafx needs the headers of lilv and LV2: {result.stderr}'
      'On Debian or Ubuntu: apt-get install liblilv-dev lv2-dev'
    )
  return result.stdout.split()


def _make_builder() -> cffi.FFI:
  folder = pathlib.Path(__file__).parent
  source = '\n'.join(
    (folder / name).read_text(encoding='utf-8')
    for name in ('_memory.c', '_state.c', '_host.c', '_batch.c')
  )
  builder = cffi.FFI()
  builder.cdef(_DECLARATIONS)
  builder.set_source(
    'dafx.lv2._host',
    source,
    extra_compile_args=[
      '-O3',
      '-std=gnu11',
      *_FORTIFY,
      *_pkg_config('--cflags'),
    ],
    extra_link_args=[*_pkg_config('--libs'), '-lpthread', '-ldl'],
  )
  return builder


ffibuilder = _make_builder()
