#!/usr/bin/env bash
# Tries each line of README.md's install section in a bare Debian 12, as a person would who has just made a checkout.
#
#   scripts/check_install.sh            every line
#   scripts/check_install.sh list       prints the lines, and runs none
#   scripts/check_install.sh TEXT       the lines in which TEXT occurs
#
# The lines are read from README.md, so a line that is changed is tried as it is then. Each starts in a system of its own
# that holds what README.md asks for (git, make, a network) and a user who may use sudo. Afterwards the command has to run,
# or, where the line installs nothing, must not be there. What a line printed is in build/install. This takes root, mmdebstrap
# (`scripts/deps.sh nightly`), 2 GiB of memory and, a line, some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly work=$PWD/build/install
readonly base=$work/base
readonly certificates=/etc/ssl/certs/ca-certificates.crt  # of this machine: its network may have an authority of its own

fail() {
  echo "check_install: $*" >&2
  exit 1
}

# The indented lines of the section, without their comments.
read_lines() {
  mapfile -t lines < <(sed -n '/^## Install$/,/^## /s/^    //p' README.md | sed 's/ *#.*//')
  [[ ${#lines[@]} -gt 0 ]] || fail "README.md has no section 'Install' with indented lines"
}

# Debian 12 with what README.md asks of a machine, once.
make_base() {
  [[ -e $base/home/user ]] && return
  echo "check_install: making a bare Debian 12 with mmdebstrap"
  rm -rf "$base"
  mkdir -p "$work"
  local check
  check=$(apt-config dump Acquire::Check-Valid-Until)
  # Nobody needs this base after a power cut, so that dpkg need not wait for the disk.
  mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --aptopt="$check" --include=ca-certificates,git,make,sudo \
    bookworm "$base" http://deb.debian.org/debian
  echo 'user ALL=(ALL) NOPASSWD: ALL' >"$base/etc/sudoers.d/user"
  chroot "$base" useradd --create-home user
}

# What a person does before a line that calls pip: Debian's pip installs into a virtual environment alone.
before() {
  [[ $1 == *pip* ]] || return 0
  cat <<'SHELL'
sudo apt-get -qq update
sudo DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends python3-venv
python3 -m venv ~/venv
. ~/venv/bin/activate
SHELL
}

# What has to hold after a line: the command runs and finds its libraries, or nothing was installed.
after() {
  if [[ $1 == *install* || $1 == *dpkg* ]]; then
    cat <<'SHELL'
cd /
gpuroom --version
gpuroom run --sim 1GiB,host=1GiB -- /bin/sh -c 'echo "$LD_PRELOAD"' | grep /libgpuroom.so
status=0; gpuroom doctor || status=$?; [ "$status" = 3 ] || [ -e /dev/nvidiactl ]
SHELL
  else
    echo 'if command -v gpuroom; then echo "this line should install nothing"; exit 1; fi'
  fi
}

# try_line LINE: runs it in the checkout of a fresh copy of the base, whose files are in memory and gone afterwards.
try_line() {
  local script
  script=$(printf '%s\n' 'set -e' 'cd ~/gpuroom' "$(before "$1")" 'set -x' "{ $1; } || exit 1" "$(after "$1")")
  # shellcheck disable=SC2016 # the inner shell expands these variables
  BASE=$base SOURCE=$work/source.tar CERTIFICATES=$certificates SCRIPT=$script unshare --mount --pid --fork bash -euc '
    mount -t tmpfs none "$BASE/mnt"
    cd "$BASE/mnt"
    mkdir upper work system
    mount -t overlay none -o "lowerdir=$BASE,upperdir=upper,workdir=work" system
    for name in dev sys; do mount --rbind "/$name" "system/$name"; done
    mount -t proc none system/proc
    for name in /etc/resolv.conf /etc/hosts "$CERTIFICATES"; do
      [[ -e $name ]] && cat "$name" >"system$name"
    done
    mkdir system/home/user/gpuroom
    tar -C system/home/user/gpuroom --no-same-owner -xf "$SOURCE"
    chroot system chown -R user: /home/user
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
      chroot system su user -c "HOME=/home/user bash -c \"\$0\"" -- "$SCRIPT"'
}

read_lines
if [[ ${1-} == list ]]; then
  printf '%s\n' "${lines[@]}"
  exit
fi
[[ $(id -u) -eq 0 ]] || fail "making a bare system takes root"
command -v mmdebstrap >/dev/null || fail "mmdebstrap was not found; run 'scripts/deps.sh nightly'"
make_base
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -cf "$work/source.tar"
tried=0 failed=0
for line in "${lines[@]}"; do
  [[ $line == *"${1-}"* ]] || continue
  tried=$((tried + 1))
  log=$work/$tried.log start=$SECONDS
  if try_line "$line" >"$log" 2>&1; then
    echo "check_install: passed after $((SECONDS - start)) s: $line"
  else
    tail -n 20 "$log" >&2
    echo "check_install: failed after $((SECONDS - start)) s ($log): $line" >&2
    failed=$((failed + 1))
  fi
done
[[ $tried -gt 0 ]] || fail "no line of README.md's install section has '$1' in it"
[[ $failed -eq 0 ]] || fail "$failed of $tried lines of README.md's install section failed"
