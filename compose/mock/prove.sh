#!/usr/bin/env bash
# prove.sh IMAGE: proves that clients reach the mock broker in a container of this image.
#
# From this machine: its published control, and a topic in its state. From another container, where
# an image of Kafka is at hand (KAFKA_IMAGE, else kafka-local:4.3.1): Kafka's own tools describe the
# topic, write to it by the advertised host, and read back what they wrote.
set -euo pipefail

image=${1:?usage: prove.sh IMAGE}
kafka=${KAFKA_IMAGE:-kafka-local:${KAFKA_VERSION:-4.3.1}}
name=mock-prove-$$
limit_s=60

say() { echo "prove: $*" >&2; }

clean_up() {
  docker rm --force "$name" >/dev/null 2>&1 || true
  docker network rm "$name" >/dev/null 2>&1 || true
}
trap clean_up EXIT

fail() {
  say "$*"
  docker logs "$name" >&2 || true
  exit 1
}

docker network create "$name" >/dev/null
docker run --detach --name "$name" --network "$name" --network-alias mock \
  --publish 127.0.0.1:0:9099 "$image" \
  --advertised-host mock --control 0.0.0.0:9099 --topic orders:1 >/dev/null
for _ in $(seq 100); do
  if docker logs "$name" 2>/dev/null | grep -q '^bootstrap.servers=mock:9092'; then break; fi
  sleep 0.1
done
docker logs "$name" 2>/dev/null | grep -q '^bootstrap.servers=mock:9092' || fail "it did not start"

# GET PATH of the control, from this machine, with nothing but bash.
control() {
  local address
  address=$(docker port "$name" 9099/tcp | head -n 1)
  exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
  printf 'GET %s HTTP/1.1\r\nHost: mock\r\nConnection: close\r\n\r\n' "$1" >&3
  timeout 10 cat <&3
  exec 3>&-
}
control /state | grep -q '"name": "orders"' || fail "this machine does not see the topic"
say "this machine reaches it"

if docker image inspect "$kafka" >/dev/null 2>&1; then
  timeout $limit_s docker run --rm --interactive --network "$name" --entrypoint /bin/bash "$kafka" \
    -s >&2 <<'IN_THE_CONTAINER' || fail "another container does not reach it"
set -euo pipefail
export PATH=/opt/kafka/bin:$PATH
kafka-topics.sh --bootstrap-server mock:9092 --describe --topic orders | grep 'PartitionCount: 1'
echo '3 apples' | kafka-console-producer.sh --bootstrap-server mock:9092 --topic orders
read=$(kafka-console-consumer.sh --bootstrap-server mock:9092 --topic orders --partition 0 \
  --offset earliest --max-messages 1 --timeout-ms 10000 2>/dev/null)
[ "$read" = '3 apples' ]
IN_THE_CONTAINER
  say "another container writes and reads"
else
  say "no image $kafka: nothing was asked from another container"
fi

docker stop --time 5 "$name" >/dev/null
[ "$(docker inspect --format '{{.State.ExitCode}}' "$name")" = 0 ] || fail "SIGTERM does not end it"
