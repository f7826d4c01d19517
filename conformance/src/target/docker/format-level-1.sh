# Formats the data folder of the node that one-node.env describes at level 1 of transaction.version,
# and goes on as the image does, which finds the folder formatted.
set -euo pipefail
properties=/tmp/format.properties
for variable in NODE_ID PROCESS_ROLES CONTROLLER_QUORUM_VOTERS CONTROLLER_LISTENER_NAMES LISTENERS \
  ADVERTISED_LISTENERS LISTENER_SECURITY_PROTOCOL_MAP INTER_BROKER_LISTENER_NAME LOG_DIRS; do
  name=KAFKA_$variable
  key=${variable,,}
  echo "${key//_/.}=${!name}"
done >$properties
KAFKA_HEAP_OPTS=-Xmx128m KAFKA_JVM_PERFORMANCE_OPTS='-XX:+UseSerialGC -XX:TieredStopAtLevel=1' \
  /opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$CLUSTER_ID" \
  --config $properties --feature transaction.version=1
exec /etc/kafka/docker/run
