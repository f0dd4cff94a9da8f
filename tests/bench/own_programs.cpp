// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/own_programs.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <cerrno>
#include <cstdlib>

#include "sys/files.h"

namespace procguard::bench {

Result<ProgramInfo> program_info(int fd) {
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) {
    return Error::system("reading about a BPF program", errno);
  }
  return ProgramInfo{.fd = fd,
                     .name = info.name,
                     .verified_instructions = info.verified_insns,
                     .run_ns = info.run_time_ns,
                     .runs = info.run_cnt};
}

Result<std::vector<ProgramInfo>> own_programs() {
  auto descriptors = sys::list_directory("/proc/self/fd");
  if (!descriptors) {
    return descriptors.error();
  }
  std::vector<ProgramInfo> all;
  for (const std::string& name : descriptors.value()) {
    auto target = sys::read_link("/proc/self/fd/" + name);
    if (target && target.value() == "anon_inode:bpf-prog") {
      if (auto info = program_info(std::atoi(name.c_str()))) {
        all.push_back(std::move(info).value());
      }
    }
  }
  return all;
}

Result<ProgramInfo> own_program(const std::string& name) {
  auto all = own_programs();
  if (!all) {
    return all.error();
  }
  for (const ProgramInfo& program : all.value()) {
    if (program.name == name.substr(0, 15)) {
      return program;
    }
  }
  return Error("no BPF program named " + name + " here");
}

}  // namespace procguard::bench
