// SPDX-License-Identifier: Apache-2.0
// Becomes root, as a copy of it that is set-uid root can: its caller may not signal it from then
// on.
#include "common.h"

int main() {
  programs::limit_life();
  if (setresuid(0, 0, 0) != 0) {
    return 1;
  }
  for (;;) {
    pause();
  }
}
