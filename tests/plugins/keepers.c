/* Plugins that keep more than their ports hold, for the tests.
 *
 * All convolve with the numbers in a text file, `taps`, times `trim`: out =
 * amount * trim * (in * taps). Ports as in plugins.c, and 4 control (atom in).
 * Without taps they are silent. "keeper" is given them by its state, and loads
 * the file as its worker, in steps of one a run; "frail" wants a whole state,
 * with `trim`, and refuses one without; "mailbox" takes messages alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lv2/atom/atom.h>
#include <lv2/atom/util.h>
#include <lv2/core/lv2.h>
#include <lv2/patch/patch.h>
#include <lv2/state/state.h>
#include <lv2/urid/urid.h>
#include <lv2/worker/worker.h>

#define PREFIX "urn:dafx-test:"
enum { MAX_TAPS = 256, PATH_BYTES = 4096, N_STEPS = 3 };

typedef struct {
  void* ports[5];
  LV2_URID taps_key, trim_key, path_type, float_type, set, property, value;
  const LV2_Worker_Schedule* schedule;
  char path[PATH_BYTES];
  int steps_left; /* until a path that was given is loaded */
  float trim;
  float taps[MAX_TAPS], line[MAX_TAPS];
  int n_taps, at;
} Keeper;

static LV2_Handle instantiate(const LV2_Descriptor* descriptor, double rate,
                              const char* path,
                              const LV2_Feature* const* features) {
  (void)descriptor, (void)rate, (void)path;
  Keeper* self = calloc(1, sizeof(*self));
  const LV2_URID_Map* map = NULL;
  for (; *features; ++features) {
    if (!strcmp((*features)->URI, LV2_URID__map)) map = (*features)->data;
    if (!strcmp((*features)->URI, LV2_WORKER__schedule))
      self->schedule = (*features)->data;
  }
  self->taps_key = map->map(map->handle, PREFIX "taps");
  self->trim_key = map->map(map->handle, PREFIX "trim");
  self->path_type = map->map(map->handle, LV2_ATOM__Path);
  self->float_type = map->map(map->handle, LV2_ATOM__Float);
  self->set = map->map(map->handle, LV2_PATCH__Set);
  self->property = map->map(map->handle, LV2_PATCH__property);
  self->value = map->map(map->handle, LV2_PATCH__value);
  self->trim = 1.0f;
  return self;
}

static void connect_port(LV2_Handle handle, uint32_t port, void* data) {
  ((Keeper*)handle)->ports[port] = data;
}

static void give_path(Keeper* self, const char* path) {
  snprintf(self->path, sizeof(self->path), "%s", path);
  self->steps_left = *path ? N_STEPS : 0;
}

static void read_messages(Keeper* self) {
  const LV2_Atom_Sequence* events = self->ports[4];
  LV2_ATOM_SEQUENCE_FOREACH(events, event) {
    const LV2_Atom_Object* object = (const LV2_Atom_Object*)&event->body;
    const LV2_Atom *property = NULL, *value = NULL;
    if (object->body.otype != self->set) continue;
    lv2_atom_object_get(object, self->property, &property, self->value, &value,
                        0);
    if (!property || !value) continue;
    const LV2_URID key = ((const LV2_Atom_URID*)property)->body;
    if (key == self->taps_key && value->type == self->path_type)
      give_path(self, LV2_ATOM_BODY_CONST(value));
    if (key == self->trim_key && value->type == self->float_type)
      self->trim = ((const LV2_Atom_Float*)value)->body;
  }
}

static void run(LV2_Handle handle, uint32_t n) {
  Keeper* self = handle;
  const float* in = self->ports[0];
  float* out = self->ports[1];
  const float gain = *(const float*)self->ports[2] * self->trim;
  *(float*)self->ports[3] = 0.0f;
  for (uint32_t i = 0; i < n; ++i) {
    self->line[self->at] = in[i];
    float sum = 0.0f;
    for (int k = 0; k < self->n_taps; ++k)
      sum += self->taps[k] * self->line[(self->at + MAX_TAPS - k) % MAX_TAPS];
    out[i] = gain * sum;
    self->at = (self->at + 1) % MAX_TAPS;
  }
  if (self->steps_left)
    self->schedule->schedule_work(self->schedule->handle, 1, "");
}

static void run_mailbox(LV2_Handle handle, uint32_t n) {
  read_messages(handle);
  run(handle, n);
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
  Keeper* self = handle;
  (void)size, (void)data;
  if (--self->steps_left) return LV2_WORKER_SUCCESS;
  FILE* file = fopen(self->path, "r");
  self->n_taps = 0;
  while (file && self->n_taps < MAX_TAPS &&
         fscanf(file, "%f", &self->taps[self->n_taps]) == 1)
    ++self->n_taps;
  if (file) fclose(file);
  return LV2_WORKER_SUCCESS;
}

static LV2_State_Status save(LV2_Handle handle, LV2_State_Store_Function store,
                             LV2_State_Handle to, uint32_t flags,
                             const LV2_Feature* const* features) {
  Keeper* self = handle;
  (void)flags, (void)features;
  return store(to, self->trim_key, &self->trim, sizeof(float),
               self->float_type, LV2_STATE_IS_POD | LV2_STATE_IS_PORTABLE);
}

static LV2_State_Status restore(LV2_Handle handle,
                                LV2_State_Retrieve_Function retrieve,
                                LV2_State_Handle from, uint32_t flags,
                                const LV2_Feature* const* features) {
  Keeper* self = handle;
  (void)flags, (void)features;
  size_t size;
  uint32_t type, how;
  const void* value = retrieve(from, self->taps_key, &size, &type, &how);
  if (value && type != self->path_type) return LV2_STATE_ERR_BAD_TYPE;
  if (value) give_path(self, value);
  value = retrieve(from, self->trim_key, &size, &type, &how);
  if (value && type == self->float_type) memcpy(&self->trim, value, size);
  return LV2_STATE_SUCCESS;
}

static LV2_State_Status restore_whole(LV2_Handle handle,
                                      LV2_State_Retrieve_Function retrieve,
                                      LV2_State_Handle from, uint32_t flags,
                                      const LV2_Feature* const* features) {
  Keeper* self = handle;
  size_t size;
  uint32_t type, how;
  if (!retrieve(from, self->trim_key, &size, &type, &how))
    return LV2_STATE_ERR_NO_PROPERTY;
  return restore(handle, retrieve, from, flags, features);
}

static const void* worker_extension(const char* uri) {
  static const LV2_Worker_Interface worker = {work, work_response, NULL};
  return strcmp(uri, LV2_WORKER__interface) ? NULL : &worker;
}

static const void* keeper_extension(const char* uri) {
  static const LV2_State_Interface state = {save, restore};
  return strcmp(uri, LV2_STATE__interface) ? worker_extension(uri) : &state;
}

static const void* frail_extension(const char* uri) {
  static const LV2_State_Interface state = {save, restore_whole};
  return strcmp(uri, LV2_STATE__interface) ? worker_extension(uri) : &state;
}

static const LV2_Descriptor descriptors[] = {
    {PREFIX "keeper", instantiate, connect_port, NULL, run, NULL, free,
     keeper_extension},
    {PREFIX "frail", instantiate, connect_port, NULL, run, NULL, free,
     frail_extension},
    {PREFIX "mailbox", instantiate, connect_port, NULL, run_mailbox, NULL, free,
     worker_extension},
};

LV2_SYMBOL_EXPORT const LV2_Descriptor* lv2_descriptor(uint32_t index) {
  return index < sizeof(descriptors) / sizeof(*descriptors)
             ? &descriptors[index]
             : NULL;
}
