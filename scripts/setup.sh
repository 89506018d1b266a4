#!/usr/bin/env bash
# Installs the programs that some tests compare with or drive, on Debian and its children:
# redis-server, redis-sentinel and redis-tools (redis-cli, redis-benchmark), and for users other
# than root fuse3, with which tests of power losses mount a file system of their own.
# Leaves no service running or enabled, and does nothing where all of them are there.
# Elsewhere it says what to install by hand.
set -euo pipefail

programs=(redis-server redis-sentinel redis-cli redis-benchmark)
packages=(redis-server redis-sentinel redis-tools)
if ((EUID != 0)); then
    programs+=(fusermount3)
    packages+=(fuse3)
fi

missing=()
for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if ((${#missing[@]} == 0)); then
    echo "setup: ${programs[*]} are installed"
    exit 0
fi

echo "setup: missing ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "setup: there is no apt-get here; install Redis 7 by the means of this system" >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "setup: run this as root: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

# The packages start their services when they are configured, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}"

# Nor may they start with the machine. Without systemd there is nothing that would start them.
if [[ -d /run/systemd/system ]]; then
    "${as_root[@]}" systemctl disable --now redis-server redis-sentinel
fi

for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || { echo "setup: $program is still missing" >&2; exit 1; }
done
echo "setup: installed ${packages[*]}"
