// SPDX-License-Identifier: Apache-2.0
#include "client/native_thread.h"

#include <pthread.h>
#include <signal.h>

#include <string>

namespace procguard::client {
namespace {

constexpr std::size_t kStackBytes = 256UL * 1024;

}  // namespace

Result<void> start_native_thread(const char* name, void* (*run)(void*), void* argument) {
  pthread_attr_t attributes;
  sigset_t all;
  sigfillset(&all);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setsigmask_np(&attributes, &all);  // without touching the caller's, even briefly
  pthread_t thread{};
  const int error = pthread_create(&thread, &attributes, run, argument);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    return Error::system(std::string("starting the thread ") + name, error);
  }
  pthread_setname_np(thread, name);
  return {};
}

}  // namespace procguard::client
