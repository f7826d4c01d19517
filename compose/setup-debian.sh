#!/usr/bin/env bash
# Sets up a Debian or Ubuntu machine for real Kafka and for other clients of Kafka: installs what is
# missing, and nothing else.
#
#   setup-debian.sh [--if-possible] PART...
#
#   engine             a Docker engine that answers: installed when missing, started when stopped
#   engine-if-missing  the same, but an engine that is installed and stopped is left alone:
#                      somebody stopped it
#   build-tools        what `make` and cargo need besides Rust: make, a C linker
#   image-tools        what compose/image/build.sh needs: JDK 17+ with jmods, Maven, static busybox
#   compose            docker compose, or docker-compose 1.29
#   interop-tools      what the clients of tests/interop need: JDK, Maven, Go, Node with npm, venv
#
# Installing and starting need root and apt-get. Without them the script says what is missing and
# fails; with --if-possible it says so and ends well. It may be run any number of times.
set -euo pipefail

apt_log=${TMPDIR:-/tmp}/kafka-setup-apt.log
engine_log=/var/log/dockerd.log
engine_wait_s=60

usage() { # the comment at the top
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2
  exit 2
}

say() { echo "setup: $*" >&2; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# install WHY PACKAGE...: one quiet apt-get run; its log is shown only when it fails.
install() {
  local why=$1
  shift
  if ! can_install; then
    say "$why: missing. Installing it needs root and apt-get; as root, run: apt-get install $*"
    return 1
  fi
  say "$why: installing $*"
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
    --no-install-recommends "$@"; } </dev/null >"$apt_log" 2>&1; then
    tail -n 20 "$apt_log" >&2
    say "$why: apt-get failed; the whole log is $apt_log"
    return 1
  fi
}

available() { apt-cache show "$1" 2>/dev/null | grep -q '^Package:'; }

engine_answers() { command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; }

engine_installed() { command -v dockerd >/dev/null || [ -n "${DOCKER_HOST-}" ]; }

install_engine() {
  local packages=(docker.io iptables)
  # Since Debian 13 the client is a package of its own.
  if can_install && available docker-cli; then packages+=(docker-cli); fi
  install "Docker engine" "${packages[@]}"
}

start_engine() {
  if [ -n "${DOCKER_HOST-}" ]; then
    say "Docker engine: DOCKER_HOST=$DOCKER_HOST does not answer; start it there"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    say "Docker engine: none answers this user. Where one runs, this user must be in the group"
    say "docker; otherwise, as root, run: make engine"
    return 1
  fi
  say "Docker engine: starting"
  if [ -d /run/systemd/system ]; then
    systemctl start docker
  else
    setsid nohup dockerd </dev/null >>"$engine_log" 2>&1 &
  fi
  local end=$((SECONDS + engine_wait_s))
  until engine_answers; do
    if [ "$SECONDS" -ge "$end" ]; then
      if [ -e "$engine_log" ]; then tail -n 10 "$engine_log" >&2; fi
      say "Docker engine: no answer within $engine_wait_s s"
      return 1
    fi
    sleep 0.5
  done
  say "Docker engine: $(docker version --format '{{.Server.Version}}') answers"
}

engine() {
  if engine_answers; then return 0; fi
  if ! engine_installed; then install_engine; fi
  if engine_answers; then return 0; fi # the package may have started it
  start_engine
}

engine_if_missing() {
  if engine_answers; then return 0; fi
  if engine_installed; then
    say "Docker engine: installed but not answering; left alone (to start it: make engine)"
    return 0
  fi
  engine
}

has_jmods() {
  local jlink
  jlink=$(command -v jlink) && [ -d "$(dirname "$(readlink -f "$jlink")")/../jmods" ]
}

# The JDK of the official image where the distribution has it, else another that Kafka runs on.
jdk_package() {
  local version
  for version in 21 17 25; do
    if available "openjdk-$version-jdk-headless"; then
      echo "openjdk-$version-jdk-headless"
      return
    fi
  done
  echo default-jdk-headless
}

image_tools() {
  local packages=()
  if [ -z "${JAVA_HOME-}" ] && ! has_jmods; then packages+=("$(jdk_package)"); fi
  command -v mvn >/dev/null || packages+=(maven)
  # A busybox that is linked dynamically would not run in an image without its libraries.
  if ! static_busybox; then packages+=(busybox-static); fi
  if [ ${#packages[@]} -gt 0 ]; then install "image build" "${packages[@]}"; fi
}

static_busybox() { command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1; }

build_tools() {
  local packages=()
  command -v make >/dev/null || packages+=(make)
  command -v cc >/dev/null || packages+=(gcc libc6-dev)
  if [ ${#packages[@]} -gt 0 ]; then install "build" "${packages[@]}"; fi
}

compose() {
  if docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; then
    return 0
  fi
  install "docker compose" docker-compose
}

interop_tools() {
  local packages=()
  command -v javac >/dev/null || packages+=("$(jdk_package)")
  command -v mvn >/dev/null || packages+=(maven)
  command -v go >/dev/null || packages+=(golang-go)
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
  if [ ${#packages[@]} -gt 0 ]; then install "interop" "${packages[@]}"; fi
}

lenient=
if [ "${1-}" = --if-possible ]; then
  lenient=1
  shift
fi
[ $# -gt 0 ] || usage

for part in "$@"; do
  case $part in
  engine | compose) work=$part ;;
  engine-if-missing) work=engine_if_missing ;;
  build-tools) work=build_tools ;;
  image-tools) work=image_tools ;;
  interop-tools) work=interop_tools ;;
  *)
    say "unknown part '$part'"
    usage
    ;;
  esac
  # A shell of its own, because `set -e` is off inside a command whose result is looked at.
  if [ -n "$lenient" ]; then "$BASH" "$0" "$part" || true; else "$work"; fi
done
