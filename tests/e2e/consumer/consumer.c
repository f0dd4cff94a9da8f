/* SPDX-License-Identifier: Apache-2.0
 * A program of somebody else's in C. */
#include <stdio.h>
#include <string.h>

#include <procguard/procguard.h>

int main(void) {
  procguard_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.resource = PROCGUARD_TIMEOUT;
  options.interrupt_type = PROCGUARD_EXCEPTION;
  options.flags = PROCGUARD_PULL;
  options.limit = 20000000;
  char error[128];
  procguard_guard* guard = procguard_guard_new(&options, error, sizeof error);
  if (guard == NULL) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  procguard_entry entry;
  procguard_trip trip;
  if (procguard_enter(guard, NULL, &entry) != 0 || procguard_sleep(60000000000U) != 1 ||
      procguard_take(&trip) != 1) {
    return 1;
  }
  procguard_leave(entry, NULL);
  procguard_guard_unref(guard);
  printf("version %s, step %u\n", procguard_version(), (unsigned)trip.step);
  return 0;
}
