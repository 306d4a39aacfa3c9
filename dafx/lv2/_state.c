/* What a plugin keeps beyond its ports, restored by its state interface: the
 * state of a preset, as lilv reads it, and single properties such as files.
 *
 * `build_host.py` puts this file between _memory.c and _host.c.
 *
 * LV2's state extension: https://lv2plug.in/ns/ext/state
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lilv/lilv.h>
#include <lv2/core/lv2.h>
#include <lv2/state/state.h>

/* Why a state could not be used. */
enum {
  DAFX_STATE_FINE,
  DAFX_STATE_NO_INTERFACE,
  DAFX_STATE_REFUSED, /* restore returned an error */
  DAFX_STATE_NOT_READ, /* the plugin did not ask for what was given */
  DAFX_STATE_NO_FILE  /* it names a file that is not there */
};

typedef struct {
  uint32_t key, type, size; /* key and type are URIDs */
  const void* value;
} DafxProperty;

/* What to restore; the caller's, which outlives the instance. */
typedef struct {
  const LilvState* preset; /* or NULL */
  uint32_t n_properties;
  const DafxProperty* properties; /* win over those of the preset */
  uint32_t path_type;             /* URID of atom:Path */
  /* The atom port for messages that set properties, where a plugin takes them so
   * and not by its state; UINT32_MAX for none, as where they do not fit. */
  uint32_t message_port;
} DafxState;

enum { MAX_ASKED = 64 };

/* What a plugin says that it keeps. */
typedef struct Saved {
  uint32_t key, type;
  size_t size;
  struct Saved* next;
  char value[]; /* aligned as what comes before it, for numbers */
} Saved;

/* One restoring, and what came of it. */
typedef struct {
  const DafxState* state;
  LV2_State_Retrieve_Function retrieve; /* lilv's, of the preset */
  LV2_State_Handle retrieve_handle;
  const LV2_State_Interface* interface;
  LV2_Handle plugin;
  Saved* saved; /* by the plugin while it was new */
  bool by_messages; /* its properties are yet to be sent */
  int problem;
  int status;       /* what the plugin's restore returned */
  uint32_t n_found; /* values that the plugin got of the preset */
  uint32_t n_asked;
  uint32_t asked[MAX_ASKED]; /* URIDs that it asked for */
  char path[PATH_MAX];       /* the file that is not there */
} Restoring;

static void note_missing_file(Restoring* self, const char* path) {
  if (!*path || !access(path, R_OK)) return;
  self->problem = DAFX_STATE_NO_FILE;
  snprintf(self->path, sizeof(self->path), "%s", path);
}

static LV2_State_Status store(LV2_State_Handle handle, uint32_t key,
                              const void* value, size_t size, uint32_t type,
                              uint32_t flags) {
  Saved** list = handle;
  if (!(flags & LV2_STATE_IS_POD)) return LV2_STATE_ERR_BAD_FLAGS;
  Saved* one = malloc(sizeof(Saved) + size + 1);
  if (!one) return LV2_STATE_ERR_NO_SPACE;
  one->key = key;
  one->type = type;
  one->size = size;
  one->next = *list;
  if (size) memcpy(one->value, value, size);
  one->value[size] = 0;
  *list = one;
  return LV2_STATE_SUCCESS;
}

static void free_saved(Saved** list) {
  while (*list) {
    Saved* next = (*list)->next;
    free(*list);
    *list = next;
  }
}

static const void* retrieve_any(LV2_State_Handle handle, uint32_t key,
                                size_t* size, uint32_t* type,
                                uint32_t* flags) {
  Restoring* self = handle;
  bool is_new = self->n_asked < MAX_ASKED;
  for (uint32_t i = 0; i < self->n_asked; ++i)
    if (self->asked[i] == key) is_new = false;
  if (is_new) self->asked[self->n_asked++] = key;
  size_t own_size = 0;
  uint32_t own_type = 0, own_flags = 0;
  const void* value = NULL;
  for (uint32_t i = 0; i < self->state->n_properties; ++i) {
    const DafxProperty* property = &self->state->properties[i];
    if (property->key != key) continue;
    value = property->value;
    own_size = property->size;
    own_type = property->type;
    own_flags = LV2_STATE_IS_POD | LV2_STATE_IS_PORTABLE;
  }
  if (!value && self->retrieve) {
    value = self->retrieve(self->retrieve_handle, key, &own_size, &own_type,
                           &own_flags);
    if (value) ++self->n_found;
  }
  for (const Saved* one = self->saved; one && !value; one = one->next) {
    if (one->key != key) continue;
    value = one->value;
    own_size = one->size;
    own_type = one->type;
    own_flags = LV2_STATE_IS_POD;
  }
  if (value && own_type == self->state->path_type)
    note_missing_file(self, value);
  if (size) *size = own_size;
  if (type) *type = own_type;
  if (flags) *flags = own_flags;
  return value;
}

static void call_restore(Restoring* self, const LV2_Feature* const* features) {
  self->status = (int)self->interface->restore(
      self->plugin, retrieve_any, self, 0, features);
}

/* lilv hands out what it holds to a plugin alone, so a stand-in takes it. */
static LV2_State_Status stand_in_restore(LV2_Handle handle,
                                         LV2_State_Retrieve_Function retrieve,
                                         LV2_State_Handle retrieve_handle,
                                         uint32_t flags,
                                         const LV2_Feature* const* features) {
  (void)flags;
  Restoring* self = handle;
  self->retrieve = retrieve;
  self->retrieve_handle = retrieve_handle;
  call_restore(self, features);
  return LV2_STATE_SUCCESS;
}

static const void* stand_in_extension(const char* uri) {
  static const LV2_State_Interface interface = {NULL, stand_in_restore};
  return strcmp(uri, LV2_STATE__interface) ? NULL : &interface;
}

static void leave_port_value(const char* symbol, void* user_data,
                             const void* value, uint32_t size, uint32_t type) {
  /* Control values come from the caller; a state sets the rest. */
  (void)symbol;
  (void)user_data;
  (void)value;
  (void)size;
  (void)type;
}

static bool was_asked(const Restoring* self, uint32_t key) {
  for (uint32_t i = 0; i < self->n_asked; ++i)
    if (self->asked[i] == key) return true;
  return false;
}

/* Restores a state in a plugin that is not active; `self` says how it went. */
static void restore_state(Restoring* self, const DafxState* state,
                          const LV2_Descriptor* descriptor, LV2_Handle plugin,
                          void* lilv_implementation,
                          const LV2_Feature* const* features) {
  memset(self, 0, sizeof(*self));
  self->state = state;
  self->plugin = plugin;
  self->interface = descriptor->extension_data
                        ? descriptor->extension_data(LV2_STATE__interface)
                        : NULL;
  const bool takes_messages =
      !state->preset && state->message_port != UINT32_MAX;
  if (!self->interface || !self->interface->restore) {
    self->by_messages = takes_messages;
    if (!takes_messages) self->problem = DAFX_STATE_NO_INTERFACE;
    return;
  }
  if (state->preset) {
    LV2_Descriptor stand_in = *descriptor;
    stand_in.extension_data = stand_in_extension;
    LilvInstance view = {&stand_in, self, lilv_implementation};
    lilv_state_restore(state->preset, &view, leave_port_value, NULL, 0,
                       features);
  } else {
    /* Some take a state only as a whole: what is not given is as it was. */
    if (self->interface->save)
      self->interface->save(plugin, store, &self->saved, 0, features);
    call_restore(self, features);
    free_saved(&self->saved);
  }
  if (self->problem) return;
  bool is_read = !state->preset || self->n_found;
  /* What it asked for beyond MAX_ASKED is not known. */
  for (uint32_t i = 0; i < state->n_properties; ++i)
    if (self->n_asked < MAX_ASKED &&
        !was_asked(self, state->properties[i].key))
      is_read = false;
  if ((!is_read || self->status) && takes_messages)
    self->by_messages = true;
  else if (!is_read)
    self->problem = DAFX_STATE_NOT_READ;
  else if (self->status)
    self->problem = DAFX_STATE_REFUSED;
}
