// SPDX-License-Identifier: Apache-2.0
// Takes the steps of in-process guards: an exception becomes pending and the thread is told, a
// signal goes to the entered thread of this very process.
#pragma once

#include "client/deliveries.h"
#include "client/patrol.h"

namespace procguard::client {

class ThreadStepper final : public Stepper {
 public:
  explicit ThreadStepper(Deliveries& deliveries) : deliveries_(deliveries) {}

  pg_result take(Entry& entry, const procguard_trip& trip) override;
  void nudge(Entry& entry) override;

 private:
  Deliveries& deliveries_;
};

// Makes a real-time signal break system calls: the highest that nobody uses. 0: there is none. The
// monitor's only.
int reserve_nudge_signal();

}  // namespace procguard::client
