#!/usr/bin/env bash
# prove-codecs.sh IMAGE: proves that every codec works in an image of Kafka, local or official.
#
# A broker runs in a container without a network. For each codec a console producer writes records
# of which the log must then hold a batch of that codec (kafka-dump-log), and a consumer must read
# every record back. A second topic per codec has the broker itself compress: its topic says
# compression.type=CODEC and its producer does not compress.
set -euo pipefail

image=${1:?usage: prove-codecs.sh IMAGE}
name=kafka-prove-codecs-$$
limit_s=240
trap 'docker rm --force "$name" >/dev/null 2>&1 || true' EXIT

# The container's own name must resolve without a network, hence the host name.
timeout $limit_s docker run --rm --interactive --name "$name" --network none --hostname localhost \
  --entrypoint /bin/bash "$image" -s <<'IN_THE_CONTAINER'
set -euo pipefail
export PATH=/opt/kafka/bin:$PATH
codecs="none gzip snappy lz4 zstd"
records=3
server=localhost:9092
log=/tmp/broker.log
mkdir /tmp/proof
cd /tmp/proof

KAFKA_HEAP_OPTS=-Xmx256m /etc/kafka/docker/run >$log 2>&1 &
broker=$!
for _ in $(seq 600); do
  if grep -q 'Kafka Server started' $log; then break; fi
  kill -0 $broker || { cat $log; exit 1; }
  sleep 0.1
done

data=$(sed -n 's/^log.dirs=//p' /opt/kafka/config/server.properties)

fail() {
  echo "prove-codecs: $*"
  tail -n 15 $log
  exit 1
}

# produce TOPIC CODEC
produce() {
  for i in $(seq $records); do echo "$1 record $i"; done \
    | kafka-console-producer.sh --bootstrap-server $server --topic "$1" \
      --compression-codec "$2"
}

for codec in $codecs; do
  produce "by-producer-$codec" "$codec" &
  on=("${on[@]-}" $!)
  kafka-topics.sh --bootstrap-server $server --create --topic "by-broker-$codec" \
    --config "compression.type=${codec/none/uncompressed}"
  produce "by-broker-$codec" none
  wait "${on[-1]}"
done

# same WHAT EXPECTED OBSERVED
same() {
  cmp -s "$2" "$3" || {
    diff "$2" "$3" || true
    fail "$1 (- expected, + observed)"
  }
}

# The console producer ends well although a batch was refused: what counts is what is in the log.
for side in by-broker by-producer; do
  for codec in $codecs; do
    for i in $(seq $records); do echo "$side-$codec record $i"; done >>expected.records
    echo "$side-$codec $codec" >>expected.codecs
    segments=${segments:+$segments,}$data/$side-$codec-0/00000000000000000000.log
  done
done
sort expected.records >expected

kafka-console-consumer.sh --bootstrap-server $server --include 'by-.*' --from-beginning \
  --max-messages "$(wc -l <expected)" --timeout-ms 30000 >consumed || fail "the consumer failed"
sort consumed >observed
same "the consumer did not read exactly what was written" expected observed

kafka-dump-log.sh --files "$segments" >dump || fail "kafka-dump-log failed"
awk '/^Dumping / { n = split($2, path, "/"); topic = path[n - 1]; sub(/-0$/, "", topic) }
  match($0, /compresscodec: [a-z0-9]+/) { print topic, substr($0, RSTART + 15, RLENGTH - 15) }' \
  dump | sort -u >observed.codecs
sort expected.codecs >expected
same "not every batch in the log has the codec of its topic" expected observed.codecs

echo "proved: $codecs, compressed by the producer and by the broker"
IN_THE_CONTAINER
