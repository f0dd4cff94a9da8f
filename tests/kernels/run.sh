#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Boots kernels under qemu and runs guest.sh in each: run.sh BUILD KERNELS SERIES...
#   BUILD     has procguard, programs/ and tests/attach_all
#   KERNELS   directory of fetch.sh
# One line a check, and "N passed, N failed, N skipped" at the end. Emulation (TCG) on purpose: it
# runs the same everywhere, and correctness is all that is judged here.
# What a guest left (log, dmesg, reports) stays in KERNELS/SERIES/results.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=${1:?usage: run.sh BUILD KERNELS SERIES...}
kernels=${2:?usage: run.sh BUILD KERNELS SERIES...}
shift 2

# Much longer than a run takes, even beside other work.
readonly limit_s=300

install_missing() {
  local package missing=()
  for package in qemu-system-x86 busybox-static cpio; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
      missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  fi
}

# pack INITRAMFS: busybox, procguard, the test programs and the libraries they load.
pack() {
  local root=$scratch/root file library
  local files=("$build/procguard" "$build/tests/attach_all")
  mkdir -p "$root"/{bin,dev,programs}
  install -m 755 /bin/busybox "$here/init" "$root/bin"
  mv "$root/bin/init" "$root/init"
  install -m 644 "$here/guest.sh" "$root"
  install -s -m 755 "${files[@]}" "$root/bin"
  for file in "$build"/programs/*; do
    if [ -f "$file" ] && [ -x "$file" ]; then
      install -m 755 "$file" "$root/programs"
      files+=("$file")
    fi
  done
  # A static program has no libraries, and ldd says so by its status.
  for file in "${files[@]}"; do
    ldd "$file" 2>/dev/null || true
  done | grep -oE '/[^ ]+' | sort -u >"$scratch/libraries" || true
  while read -r library; do
    install -D -m 755 "$library" "$root$library"
  done <"$scratch/libraries"
  (cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$1"
}

# boot SERIES: fills KERNELS/SERIES/results; fails if the guest gave none.
boot() {
  local kernel=$kernels/$1 disk=$scratch/results.img
  rm -rf "$kernel/results" "$kernel/console.log"
  mkdir "$kernel/results"
  rm -f "$disk"
  truncate -s 16M "$disk"
  timeout -k 5 $limit_s qemu-system-x86_64 -accel tcg,thread=multi -cpu max -M pc -smp 2 -m 1G \
    -nodefaults -display none -no-reboot -serial "file:$kernel/console.log" \
    -kernel "$kernel/vmlinux" -initrd "$scratch/initramfs.cpio" \
    -drive "file=$disk,if=none,id=results,format=raw" -device nvme,drive=results,serial=results \
    -append 'console=ttyS0 panic=-1 quiet mitigations=off random.trust_cpu=on tsc=reliable no_timer_check' \
    </dev/null &
  guest=$!
  wait $guest || echo "$1: qemu ended with status $?"
  guest=
  tar -xf "$disk" -C "$kernel/results" 2>/dev/null && [ -s "$kernel/results/checks" ]
}

passed=0 failed=0 skipped=0

# tally SERIES: prints and counts its checks.
tally() {
  local line results=$kernels/$1/results complete=false
  while IFS= read -r line; do
    case $line in
      "ok "*) passed=$((passed + 1)) ;;
      "skipped "*) skipped=$((skipped + 1)) ;;
      finished) complete=true && continue ;;
      *) failed=$((failed + 1)) ;;
    esac
    echo "$1: $line"
  done <"$results/checks"
  if ! $complete; then
    echo "$1: failed guest.sh: ended early with status $(cat "$results/status" 2>/dev/null)"
    failed=$((failed + 1))
  fi
}

# One more try if the machine did not come up; never one if a check failed.
test_kernel() {
  local started=$SECONDS
  if ! boot "$1" && ! grep -q "procguard-guest: init" "$kernels/$1/console.log"; then
    echo "$1: did not reach init, once more"
    boot "$1" || true
  fi
  if [ -s "$kernels/$1/results/checks" ]; then
    tally "$1"
  else
    echo "$1: failed boot: no results; the console's last lines:"
    tail -n 20 "$kernels/$1/console.log" || true
    failed=$((failed + 1))
  fi
  echo "$1: $(cat "$kernels/$1/release") took $((SECONDS - started)) s; details: $kernels/$1/results"
}

guest=
scratch=$(mktemp -d)
trap '[ -z "$guest" ] || kill "$guest" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

install_missing
"$here/fetch.sh" "$kernels" "$@"
pack "$scratch/initramfs.cpio"
for series in "$@"; do
  test_kernel "$series"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
