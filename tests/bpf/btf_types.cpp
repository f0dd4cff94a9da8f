// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/btf_types.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace procguard::tests {
namespace {

// A struct that is only pointed to may be a mere declaration.
bool is_record(const btf_type* type) {
  return btf_is_composite(type) || btf_is_fwd(type);
}

}  // namespace

std::string essential_name(const std::string& name) {
  const auto flavour = name.find("___");
  return flavour == 0 ? name : name.substr(0, flavour);
}

Result<BtfTypes> BtfTypes::of_object(const std::string& path) {
  btf* raw = btf__parse_elf(path.c_str(), nullptr);
  if (raw == nullptr) {
    return Error::system("reading the BTF of " + path, errno);
  }
  return BtfTypes(raw);
}

Result<BtfTypes> BtfTypes::of_kernel(const std::string& path) {
  btf* raw = btf__parse_raw(path.c_str());
  if (raw == nullptr) {
    return Error::system("reading the BTF " + path, errno);
  }
  return BtfTypes(raw);
}

BtfTypes::BtfTypes(btf* raw) : btf_(raw) {
  for (std::uint32_t id = 1; id < btf__type_cnt(raw); ++id) {
    const btf_type* type = btf__type_by_id(raw, id);
    if (btf_is_any_enum(type)) {
      collect_enumerators(id);
    }
    if (!btf_is_composite(type) || type->name_off == 0) {
      continue;
    }
    BtfRecord record{name(id), id, type->size, {}};
    collect(id, 0, record.members);
    records_.emplace(record.name, std::move(record));
  }
}

void BtfTypes::collect(std::uint32_t type, std::uint32_t base_bits,
                       std::vector<BtfMember>& into) const {
  const btf_type* record = btf__type_by_id(btf_.get(), type);
  const btf_member* members = btf_members(record);
  for (std::uint32_t i = 0; i < btf_vlen(record); ++i) {
    const std::uint32_t offset = base_bits + btf_member_bit_offset(record, i);
    if (members[i].name_off != 0) {
      into.push_back({btf__name_by_offset(btf_.get(), members[i].name_off), members[i].type, offset,
                      btf_member_bitfield_size(record, i) != 0});
    } else if (btf_is_composite(btf__type_by_id(btf_.get(), bare(members[i].type)))) {
      collect(bare(members[i].type), offset, into);
    }
  }
}

void BtfTypes::collect_enumerators(std::uint32_t id) {
  const btf_type* type = btf__type_by_id(btf_.get(), id);
  for (std::uint32_t i = 0; i < btf_vlen(type); ++i) {
    if (btf_is_enum(type)) {
      const struct btf_enum& one = btf_enum(type)[i];
      enumerators_[btf__name_by_offset(btf_.get(), one.name_off)] = one.val;
    } else {
      const struct btf_enum64& one = btf_enum64(type)[i];
      enumerators_[btf__name_by_offset(btf_.get(), one.name_off)] =
          static_cast<std::int64_t>(btf_enum64_value(&one));
    }
  }
}

std::uint32_t BtfTypes::bare(std::uint32_t type) const {
  const btf_type* t = btf__type_by_id(btf_.get(), type);
  while (btf_is_mod(t) || btf_is_typedef(t)) {
    type = t->type;
    t = btf__type_by_id(btf_.get(), type);
  }
  return type;
}

std::string BtfTypes::name(std::uint32_t type) const {
  return btf__name_by_offset(btf_.get(), btf__type_by_id(btf_.get(), type)->name_off);
}

std::string BtfTypes::describe(std::uint32_t type) const {
  static const std::map<int, std::string> kinds = {
      {BTF_KIND_UNKN, "void"},    {BTF_KIND_INT, "integer"},   {BTF_KIND_PTR, "pointer"},
      {BTF_KIND_ARRAY, "array"},  {BTF_KIND_STRUCT, "struct"}, {BTF_KIND_UNION, "union"},
      {BTF_KIND_ENUM, "enum"},    {BTF_KIND_FWD, "struct"},    {BTF_KIND_FUNC_PROTO, "function"},
      {BTF_KIND_ENUM64, "enum64"}};
  const auto kind = kinds.find(btf_kind(btf__type_by_id(btf_.get(), type)));
  const std::string own = name(type);
  return (kind == kinds.end() ? "type" : kind->second) + (own.empty() ? "" : " " + own);
}

std::uint32_t BtfTypes::size_bytes(std::uint32_t type) const {
  const std::int64_t size = btf__resolve_size(btf_.get(), type);
  return size > 0 ? static_cast<std::uint32_t>(size) : 0;
}

std::string BtfTypes::member_mismatch(std::uint32_t mine, const BtfTypes& kernel,
                                      std::uint32_t theirs) const {
  if (!name(mine).empty()) {
    return "";
  }
  std::vector<BtfMember> members;
  std::vector<BtfMember> candidates;
  collect(mine, 0, members);
  kernel.collect(theirs, 0, candidates);
  for (const BtfMember& member : members) {
    const auto same =
        std::find_if(candidates.begin(), candidates.end(),
                     [&](const BtfMember& candidate) { return candidate.name == member.name; });
    const std::string why =
        same == candidates.end() ? "no such member" : mismatch(member.type, kernel, same->type);
    if (!why.empty()) {
      return "." + member.name + ": " + why;
    }
  }
  return "";
}

std::string BtfTypes::mismatch(std::uint32_t mine, const BtfTypes& kernel,
                               std::uint32_t theirs) const {
  mine = bare(mine);
  theirs = kernel.bare(theirs);
  const btf_type* a = btf__type_by_id(btf_.get(), mine);
  const btf_type* b = btf__type_by_id(kernel.btf_.get(), theirs);
  const std::string differ = describe(mine) + " here, " + kernel.describe(theirs) + " there";
  const auto same_name = [&](std::uint32_t one, std::uint32_t other) {
    const std::string ours = essential_name(name(one));
    const std::string kernels = essential_name(kernel.name(other));
    return ours.empty() || kernels.empty() || ours == kernels;
  };
  if (btf_is_composite(a) && btf_is_composite(b)) {
    return same_name(mine, theirs) ? member_mismatch(mine, kernel, theirs) : differ;
  }
  if (btf_is_any_enum(a) && btf_is_any_enum(b)) {
    return same_name(mine, theirs) ? "" : differ;
  }
  if (btf_kind(a) != btf_kind(b)) {
    return differ;
  }
  switch (btf_kind(a)) {
    case BTF_KIND_INT:
      if (a->size != b->size) {
        return differ + ": " + std::to_string(a->size) + " and " + std::to_string(b->size) +
               " bytes";
      }
      // Compilers do not agree on whether a char is "signed".
      return a->size == 1 || ((btf_int_encoding(a) ^ btf_int_encoding(b)) & BTF_INT_SIGNED) == 0
                 ? ""
                 : differ + ": of other sign";
    case BTF_KIND_ARRAY:
      return mismatch(btf_array(a)->type, kernel, btf_array(b)->type);
    case BTF_KIND_PTR: {
      const std::uint32_t to = bare(a->type);
      const std::uint32_t kernel_to = kernel.bare(b->type);
      const bool records = is_record(btf__type_by_id(btf_.get(), to)) &&
                           is_record(btf__type_by_id(kernel.btf_.get(), kernel_to));
      return !records || same_name(to, kernel_to) ? ""
                                                  : "pointer to " + describe(to) + " here, to " +
                                                        kernel.describe(kernel_to) + " there";
    }
    default:
      return "";
  }
}

}  // namespace procguard::tests
