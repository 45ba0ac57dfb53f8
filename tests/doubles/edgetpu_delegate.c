/* Stands in for libedgetpu.so.1: a delegate by its plugin interface that takes no operation, so that the interpreter runs
 * them all. It knows one device of each kind and no option but the two that the real one documents, and writes down what
 * it was asked in a file beside itself. The struct is TfLiteDelegate of tensorflow/lite/core/c/common.h. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Delegate {
  void *data;
  int (*prepare)(void *context, struct Delegate *delegate);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *builder;
} Delegate;

static void note(const char *text) {
  Dl_info own;
  char path[4096];
  if (!dladdr((void *)note, &own)) return;
  snprintf(path, sizeof path, "%s.log", own.dli_fname);
  FILE *file = fopen(path, "a");
  if (!file) return;
  fprintf(file, "%s\n", text);
  fclose(file);
}

static int prepare(void *context, Delegate *delegate) {
  (void)context, (void)delegate;
  note("prepare");
  return 0;
}

Delegate *tflite_plugin_create_delegate(char **names, char **values, size_t count, void (*report)(const char *)) {
  char line[256] = "create";
  for (size_t i = 0; i < count; i++) {
    int is_device = !strcmp(names[i], "device");
    if (!is_device && strcmp(names[i], "Performance")) {
      report("unknown option");
      return NULL;
    }
    if (is_device && strcmp(values[i], "usb:0") && strcmp(values[i], "pci:0") && strcmp(values[i], "usb")) {
      report("no such device");
      return NULL;
    }
    snprintf(line + strlen(line), sizeof line - strlen(line), " %s=%s", names[i], values[i]);
  }
  note(line);
  Delegate *made = calloc(1, sizeof *made);
  if (made) made->prepare = prepare;
  return made;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
  note("destroy");
  free(delegate);
}
