#!/usr/bin/env bash
# cluster.sh up|down one-node|three-brokers: real Kafka with Compose. `make up`, `make down`.
#
#   KAFKA_IMAGE    the image; when unset the official one of KAFKA_VERSION, present or pulled, and
#                  where that is impossible a local build of the same release
#   KAFKA_VERSION  the release, 4.3.1 when unset
#   KAFKA_PORT     the first port on 127.0.0.1, 9092 when unset; three brokers take three
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-4.3.1}
port=${KAFKA_PORT:-9092}
pull_limit_s=300
ready_limit_s=120

say() { echo "cluster: $*" >&2; }

# quiet COMMAND...: shows what the command says only when it fails.
quiet() {
  local output
  output=$("$@" 2>&1) || {
    echo "$output" >&2
    return 1
  }
}

usage() {
  say "usage: cluster.sh up|down one-node|three-brokers"
  exit 2
}

compose() {
  "${compose_command[@]}" --project-name "kafka-$cluster" --file "$here/$cluster.yml" "$@"
}

find_compose() {
  "$here/setup-debian.sh" compose
  if docker compose version >/dev/null 2>&1; then
    compose_command=(docker compose)
  else
    compose_command=(docker-compose)
  fi
}

choose_image() {
  if [ -n "${KAFKA_IMAGE-}" ]; then return; fi
  local official=apache/kafka:$version local_build=kafka-local:$version
  if docker image inspect "$official" >/dev/null 2>&1; then
    KAFKA_IMAGE=$official
  elif docker image inspect "$local_build" >/dev/null 2>&1; then
    KAFKA_IMAGE=$local_build
  elif timeout $pull_limit_s docker pull --quiet "$official" >/dev/null 2>&1; then
    KAFKA_IMAGE=$official
  else
    say "no registry gives $official; building $local_build"
    KAFKA_VERSION=$version IMAGE=$local_build "$here/image/build.sh"
    KAFKA_IMAGE=$local_build
  fi
  export KAFKA_IMAGE
}

# tool NAME ARGUMENT...: a tool of Kafka inside the first broker.
tool() {
  local name=$1
  shift
  compose exec -T "$first" timeout 20 "/opt/kafka/bin/$name" --bootstrap-server "$inside" "$@" \
    </dev/null 2>&1
}

# Ready is: every broker answers ApiVersions and stands in the metadata, and the coordinator of
# transactions has loaded its log and so knows that it does not know this id. An open port proves
# nothing; the engine's proxy opens it early.
ready() {
  local answer
  answer=$(tool kafka-broker-api-versions.sh) || true
  [ "$(grep -c '^[^ ]*:[0-9]* (id: ' <<<"$answer")" = "$brokers" ] || return 1
  answer=$(tool kafka-transactions.sh describe --transactional-id readiness) || true
  grep -q 'could not be found' <<<"$answer"
}

up() {
  if ! command -v docker >/dev/null || ! timeout 20 docker info >/dev/null 2>&1; then
    say "no Docker engine answers; run: make engine"
    exit 1
  fi
  find_compose
  choose_image
  local start=$SECONDS
  quiet compose up --detach || {
    say "not started. A port that is taken: choose another first port with KAFKA_PORT, below 32768."
    say "What was started is removed by: make down CLUSTER=$cluster"
    exit 1
  }
  until ready; do
    if [ $((SECONDS - start)) -ge $ready_limit_s ]; then
      compose logs --no-color --tail 10 >&2
      say "not ready after $ready_limit_s s; the last lines of the logs are above"
      exit 1
    fi
    sleep 0.3
  done
  say "$KAFKA_IMAGE is ready after $((SECONDS - start)) s"
  echo "bootstrap.servers=$bootstrap"
}

down() {
  find_compose
  # Brokers would wait in vain for the controller that is stopped beside them.
  quiet compose down --volumes --timeout 1
}

[ $# = 2 ] || usage
cluster=$2
case $cluster in
one-node)
  brokers=1 first=kafka inside=localhost:19092 bootstrap=127.0.0.1:$port
  export KAFKA_PORT=$port
  ;;
three-brokers)
  brokers=3 first=broker-1 inside=broker-1:19092
  export KAFKA_PORT_1=$port KAFKA_PORT_2=$((port + 1)) KAFKA_PORT_3=$((port + 2))
  bootstrap=127.0.0.1:$KAFKA_PORT_1,127.0.0.1:$KAFKA_PORT_2,127.0.0.1:$KAFKA_PORT_3
  ;;
*) usage ;;
esac
case $1 in
up | down) "$1" ;;
*) usage ;;
esac
