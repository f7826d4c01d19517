#!/usr/bin/env bash
# Builds an image of the mock broker without any image registry: the program and the libraries of
# this machine that it needs. `make mock-image`.
#
#   IMAGE    the image's name, mockbroker:local when unset
#   PROFILE  how cargo builds the program, release when unset; `dev` is quicker to build
#
# The name is given last, when clients have reached a container of it: a failed build leaves the
# name as it was.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${IMAGE:-mockbroker:local}
profile=${PROFILE:-release}
candidate=mockbroker-candidate:$$
target=${CARGO_TARGET_DIR:-$here/../../target}
folder=$profile
if [ "$profile" = dev ]; then folder=debug; fi
context=$(mktemp -d)

say() { echo "mock-image: $*" >&2; }

clean_up() {
  docker image rm "$candidate" >/dev/null 2>&1 || true
  rm -rf "$context" "$context.log"
}
trap clean_up EXIT

command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1 || {
  say "no Docker engine answers; run: make engine"
  exit 1
}

(cd "$here/../.." && cargo build --locked --quiet --profile "$profile" -p kafka-mockbroker \
  --bin mockbroker)

root=$context/rootfs
program=$target/$folder/mockbroker
install -D "$program" "$root/usr/bin/mockbroker"
if command -v strip >/dev/null; then strip "$root/usr/bin/mockbroker"; fi
# Each at the path where the loader looks for it; a program that is linked statically needs none.
{ ldd "$program" 2>/dev/null || true; } | grep -oE '/[^ ]+\.so[^ ]*' | while read -r library; do
  install -D "$(readlink -f "$library")" "$root$library"
done
mkdir -p "$root/etc"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
tar -C "$root" --owner=0 --group=0 -cf "$context/rootfs.tar" .
rm -rf "$root"
cp "$here/Dockerfile" "$context/"

# Without the buildx plugin a recent client refuses BuildKit; both builders do.
buildkit=0
if docker buildx version >/dev/null 2>&1; then buildkit=1; fi
DOCKER_BUILDKIT=$buildkit docker build --force-rm --tag "$candidate" "$context" \
  >"$context.log" 2>&1 || {
  cat "$context.log" >&2
  exit 1
}
"$here/prove.sh" "$candidate"
docker tag "$candidate" "$image"
bytes=$(docker image inspect --format '{{.Size}}' "$image")
say "$image is ready ($((bytes / 1000000)) MB)"
