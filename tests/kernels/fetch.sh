#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the kernels of the test matrix: fetch.sh DIRECTORY SERIES...
# Fills DIRECTORY/SERIES/ with
#   vmlinux   the uncompressed kernel (what qemu boots without a boot loader)
#   btf       its types, raw
#   release   what uname -r prints there
# The kernels are Debian's cloud ones: BTF, NVMe, ext4, memcg and PSI built in, few modules. The
# newest of a series is taken, by search: the archive drops old ones. What is there stays as it is;
# remove DIRECTORY for newer kernels. Nothing is installed but the unpackers.
set -euo pipefail

directory=${1:?usage: fetch.sh DIRECTORY SERIES...}
shift

complete() { [ -s "$1/vmlinux" ] && [ -s "$1/btf" ] && [ -s "$1/release" ]; }

missing=()
for series in "$@"; do
  complete "$directory/$series" || missing+=("$series")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(dpkg --print-architecture)" != amd64 ]; then
  echo "fetch.sh: the kernel matrix is x86-64 only, this is $(dpkg --print-architecture)" >&2
  exit 1
fi

mkdir -p "$directory"
# Two make targets may want the kernels at the same time.
exec 9>"$directory/lock"
flock 9

scratch=$(mktemp -d "$directory/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

apt-get update -q
tools=()
for tool in binutils lz4 zstd; do
  dpkg-query -W -f='${db:Status-Status}' "$tool" 2>/dev/null | grep -qx installed || tools+=("$tool")
done
if [ ${#tools[@]} -gt 0 ]; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${tools[@]}"
fi

# u32 FILE OFFSET: a little-endian number of the boot header.
u32() { od -A n -t u4 -j "$2" -N 4 "$1" | tr -d ' '; }

# unpack VMLINUZ: the payload's place is in the boot header (boot protocol 2.08); its last four
# bytes are the unpacked size, which the unpackers take for garbage.
unpack() {
  local sectors offset length magic unpacker
  sectors=$(od -A n -t u1 -j $((0x1f1)) -N 1 "$1" | tr -d ' ')
  offset=$(((sectors + 1) * 512 + $(u32 "$1" $((0x248)))))
  length=$(($(u32 "$1" $((0x24c))) - 4))
  magic=$(od -A n -t x1 -j $offset -N 4 "$1" | tr -d ' ')
  case $magic in
    02214c18) unpacker=(lz4 -dc) ;;
    28b52ffd) unpacker=(zstd -dc) ;;
    *) echo "fetch.sh: $1: payload of unknown kind $magic" >&2 && return 1 ;;
  esac
  head -c $((offset + length)) "$1" | tail -c $length | "${unpacker[@]}"
}

fetch() {
  local series=$1 package image
  package=$(apt-cache search --names-only "^linux-image-${series//./\\.}\..*-cloud-amd64\$" |
    cut -d ' ' -f 1 | sort -V | tail -n 1)
  if [ -z "$package" ]; then
    echo "fetch.sh: no package linux-image-$series.*-cloud-amd64 in the apt sources" >&2
    return 1
  fi
  echo "fetching $package"
  mkdir "$scratch/$series" "$scratch/$series/tree"
  # apt's own user may not write here; the signature check does not need it.
  (cd "$scratch/$series" && apt-get download -q -o APT::Sandbox::User=root "$package")
  dpkg -x "$scratch/$series/$package"_*.deb "$scratch/$series/tree"
  image=$(echo "$scratch/$series/tree/boot"/vmlinuz-*)
  echo "${image##*/vmlinuz-}" >"$scratch/$series/release"
  unpack "$image" >"$scratch/$series/vmlinux"
  objcopy -O binary --only-section=.BTF "$scratch/$series/vmlinux" "$scratch/$series/btf"
  chmod 644 "$scratch/$series/btf"
  rm -rf "$scratch/$series/tree" "$scratch/$series"/*.deb
  complete "$scratch/$series" || { echo "fetch.sh: $package: no kernel or no BTF in it" >&2 && return 1; }
  rm -rf "${directory:?}/$series"
  mv "$scratch/$series" "$directory/$series"
}

for series in "${missing[@]}"; do
  # Someone else may have fetched it while we waited for the lock.
  complete "$directory/$series" || fetch "$series"
done
