#!/usr/bin/env bash
# Installs what the Vulkan tests need and writes what a build must know about it.
#
#   usage: vulkan-deps.sh ENV_FILE
#
# ENV_FILE is written whole; it sets LLT_VULKAN_INCLUDE_DIR where the machine's own headers are too old.
# Safe to run again: a machine that has everything is only looked at. Needs apt, and root or sudo.
#
# Two things of Debian 12 are too old: the headers, taken from the next release into a
# private folder (they are text, so that release's newer libc does not matter), and Mesa's software driver,
# taken from the backports. Package sources for both are made from the machine's own by replacing the
# release's name, in a private folder: the machine's own sources are never changed.
set -euo pipefail
trap 'echo "vulkan-deps: FAILED at line $LINENO: $BASH_COMMAND" >&2' ERR

env_file=${1:?usage: vulkan-deps.sh ENV_FILE}
cache=${LLT_CI_CACHE:-$HOME/.cache/llt-ci}
headers=$cache/vulkan-headers
# Oldest major version of Mesa whose llvmpipe was seen to run ggml-vulkan; 22.3.6 segfaults in the first decode.
mesa_floor=25
export DEBIAN_FRONTEND=noninteractive

say() { printf 'vulkan-deps: %s\n' "$*" >&2; }
die() { say "FAILED: $*"; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo --preserve-env=DEBIAN_FRONTEND "$@"
  else die "needs root or sudo for: $*"
  fi
}

# The same test as `llt doctor` makes: ggml-vulkan.cpp needs vk::LayerSettingEXT.
headers_suffice() {
  printf '%s\n' '#include <vulkan/vulkan.hpp>' 'vk::LayerSettingEXT probe;' |
    "${CXX:-c++}" -std=c++17 -fsyntax-only "$@" -x c++ - >/dev/null 2>&1
}

installed() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }
installed_version() { installed "$1" && dpkg-query -W -f='${Version}\n' "$1" | head -n 1; }

# True where $1 is a version of Mesa that is new enough.
mesa_suffices() { [ -n "$1" ] && [ "$1" != "(none)" ] && dpkg --compare-versions "$1" ge "$mesa_floor"; }

# The machine's own package sources, one "URI RELEASE COMPONENT" a line, whatever file format they stand in.
own_sources() {
  # shellcheck disable=SC2016  # apt's own placeholders, not the shell's
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u
}

# private_apt NAME RELEASE [own]: prepares apt options that see RELEASE (from where the machine's own release
# comes from) and, with "own", the machine's own sources too. Sets the array `apt_opts`.
private_apt() {
  local name=$1 release=$2 own=${3:-} root=$cache/apt/$1 list sources
  list=$root/sources.list
  sources=$(own_sources) || die "the machine's own package sources cannot be read (apt-get indextargets)"
  mkdir -p "$root/lists/partial" "$root/archives/partial"
  local keys='' ring
  for ring in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/ubuntu-archive-keyring.gpg; do
    if [ -r "$ring" ]; then keys="[signed-by=$ring] "; break; fi
  done
  {
    awk -v o="$VERSION_CODENAME" -v n="$release" -v k="$keys" '$2 == o {print "deb " k $1, n, $3}' <<<"$sources"
    if [ -n "$own" ]; then awk -v k="$keys" '{print "deb " k $1, $2, $3}' <<<"$sources"; fi
  } >"$list"
  grep -q " $release " "$list" || die "no package source of this machine offers $VERSION_CODENAME"
  apt_opts=(-o "Dir::Etc::SourceList=$list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$root/lists"
    -o "Dir::Cache::archives=$root/archives" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
    -o APT::Sandbox::User=root)
  as_root apt-get "${apt_opts[@]}" update -qq >&2 || die "package lists of $release cannot be read ($name)"
}

install_plain() {
  local package wanted=()
  for package in "$@"; do installed "$package" || wanted+=("$package"); done
  [ ${#wanted[@]} -eq 0 ] && return 0
  say "installing ${wanted[*]}"
  as_root apt-get update -qq >&2 || die 'the package lists cannot be read (apt-get update)'
  as_root apt-get install -y -qq --no-install-recommends "${wanted[@]}" >&2 || die "cannot install ${wanted[*]}"
}

install_mesa() {
  if mesa_suffices "$(installed_version mesa-vulkan-drivers || true)"; then return 0; fi
  as_root apt-get update -qq >&2 || die 'the package lists cannot be read (apt-get update)'
  local candidate
  candidate=$(apt-cache policy mesa-vulkan-drivers | awk '/Candidate:/ {print $2}')
  if mesa_suffices "$candidate"; then
    say "installing mesa-vulkan-drivers $candidate"
    as_root apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers >&2 ||
      die "cannot install mesa-vulkan-drivers $candidate"
    return 0
  fi
  say "mesa-vulkan-drivers ${candidate:-(none)} is older than $mesa_floor: taking it from $VERSION_CODENAME-backports"
  private_apt backports "$VERSION_CODENAME-backports" own
  as_root apt-get "${apt_opts[@]}" install -y -qq --no-install-recommends \
    -t "$VERSION_CODENAME-backports" mesa-vulkan-drivers >&2 || die 'cannot install mesa-vulkan-drivers from backports'
  mesa_suffices "$(installed_version mesa-vulkan-drivers || true)" ||
    die "the backports of $VERSION_CODENAME have no mesa-vulkan-drivers $mesa_floor or newer"
}

# Unpacks the next release's libvulkan-dev; only its headers are used.
fetch_headers() {
  local next
  case $VERSION_CODENAME in
    bookworm) next=trixie ;;
    *) die "the Vulkan headers of $VERSION_CODENAME are too old, and no newer release is known here" ;;
  esac
  say "Vulkan headers of $VERSION_CODENAME are too old: unpacking those of $next into $headers"
  private_apt next "$next"
  local part=$headers.part.$$
  rm -rf "$part"
  mkdir -p "$part/deb"
  (cd "$part/deb" && apt-get "${apt_opts[@]}" download -qq libvulkan-dev >&2) ||
    die "cannot download libvulkan-dev of $next"
  dpkg -x "$part"/deb/libvulkan-dev_*.deb "$part/unpacked"
  headers_suffice -isystem "$part/unpacked/usr/include" || die "the Vulkan headers of $next are too old as well"
  rm -rf "$headers"
  mv "$part/unpacked" "$headers"
  rm -rf "$part"
}

command -v apt-get >/dev/null || die 'this script knows apt only; install Vulkan headers, glslc, SPIRV-Headers and Mesa 25 by hand'
# shellcheck source=/dev/null
. /etc/os-release
: "${VERSION_CODENAME:?/etc/os-release names no release}"
mkdir -p "$cache"

install_plain g++ libvulkan1 libvulkan-dev glslc spirv-headers
install_mesa
include=''
if ! headers_suffice; then
  headers_suffice -isystem "$headers/usr/include" || fetch_headers
  include=$headers/usr/include
fi

{
  if [ -n "$include" ]; then printf 'export LLT_VULKAN_INCLUDE_DIR=%q\n' "$include"; fi
} >"$env_file.part"
mv "$env_file.part" "$env_file"
say "ready: mesa $(installed_version mesa-vulkan-drivers), headers ${include:-of this machine}"
