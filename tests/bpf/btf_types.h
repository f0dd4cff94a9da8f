// SPDX-License-Identifier: Apache-2.0
// BtfTypes: the structs, unions and enums of one BTF blob (a BPF object or a kernel), flattened the
// way CO-RE looks at them: members of an anonymous struct or union belong to the struct around it.
// Offsets are in bits. Not thread-safe. Errors: the file cannot be read or has no BTF.
#pragma once

#include <bpf/btf.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"

namespace procguard::tests {

struct BtfMember {
  std::string name;
  std::uint32_t type;
  std::uint32_t offset_bits;
  bool bitfield;
};

struct BtfRecord {
  std::string name;  // with its ___flavour
  std::uint32_t type;
  std::uint32_t size_bytes;
  std::vector<BtfMember> members;
};

struct BtfEnumerator {
  std::string name;
  std::int64_t value;
};

class BtfTypes {
 public:
  static Result<BtfTypes> of_object(const std::string& path);  // an ELF file with .BTF
  static Result<BtfTypes> of_kernel(const std::string& path);  // raw: /sys/kernel/btf/vmlinux

  // Named structs and unions; more than one can have the same name.
  const std::multimap<std::string, BtfRecord>& records() const { return records_; }
  // Enumerators of all enums, by name.
  const std::map<std::string, std::int64_t>& enumerators() const { return enumerators_; }

  // Why a field declared as `mine` in this BTF would not be taken for one of type `theirs` in
  // `kernel`; empty if it is. CO-RE's rules, and three of ours where CO-RE is silent and the read
  // would be wrong: the size of integers, their sign, and the struct that a pointer leads to.
  std::string mismatch(std::uint32_t mine, const BtfTypes& kernel, std::uint32_t theirs) const;

  // Bytes; 0 if it has none (void, a function).
  std::uint32_t size_bytes(std::uint32_t type) const;

 private:
  struct Free {
    void operator()(btf* b) const { btf__free(b); }
  };
  explicit BtfTypes(btf* raw);
  void collect(std::uint32_t type, std::uint32_t base_bits, std::vector<BtfMember>& into) const;
  void collect_enumerators(std::uint32_t type);
  // A struct without a name of its own (kuid_t) is found through who has it; so are its members.
  std::string member_mismatch(std::uint32_t mine, const BtfTypes& kernel,
                              std::uint32_t theirs) const;
  std::uint32_t bare(std::uint32_t type) const;  // without typedef, const, volatile
  std::string name(std::uint32_t type) const;
  std::string describe(std::uint32_t type) const;

  std::unique_ptr<btf, Free> btf_;
  std::multimap<std::string, BtfRecord> records_;
  std::map<std::string, std::int64_t> enumerators_;
};

// "mm_struct" of "mm_struct___pre62": the name that CO-RE looks for.
std::string essential_name(const std::string& name);

}  // namespace procguard::tests
