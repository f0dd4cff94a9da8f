// SPDX-License-Identifier: Apache-2.0
// What a line of the log looks like in each format. Pure. Names are hostile: none ends a line or
// moves a cursor.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "agent/log.h"
#include "proto/messages.h"

namespace procguard::agent {

// What the agent says of itself.
struct Note {
  Severity severity = Severity::kInfo;
  std::uint64_t real_ns = 0;
  std::string text;
};

// How much an event matters: a step is a warning, one that failed an error.
Severity severity_of(const pg_event& event);

// "2026-01-05T10:11:12.345Z warning guard g1 'import' step 0: SIGTERM, sent; ...", without line
// end.
std::string text_line(const proto::EventBody& event);
std::string text_line(const Note& note);

// {"schema":1,"event":"agent.note","time":...,"severity":...,"text":...}; for events see
// proto/event_json.h.
std::string json_line(const Note& note);

// Fields of a journal entry. PROCGUARD_EVENT is there once for each name the event has in JSON.
using JournalFields = std::vector<std::pair<std::string, std::string>>;
JournalFields journal_fields(const proto::EventBody& event);
JournalFields journal_fields(const Note& note);

}  // namespace procguard::agent
