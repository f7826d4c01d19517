#!/bin/bash
# kafka-run-class.sh CLASS ARGUMENT...: runs a class of Kafka. CLASS_ARCHIVE names a class data
# archive to start from. It and KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_HEAP_OPTS, KAFKA_LOG4J_OPTS,
# KAFKA_JMX_OPTS and KAFKA_OPTS are taken from the environment.
set -eu
options=(-Djava.awt.headless=true)
if [ -n "${CLASS_ARCHIVE-}" ] && [ -e "$CLASS_ARCHIVE" ]; then
  options+=("-XX:SharedArchiveFile=$CLASS_ARCHIVE")
fi
# shellcheck disable=SC2086 # each of these variables is a list of words
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} \
  ${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20} "${options[@]}" \
  ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/etc/kafka/docker/tools-log4j2.yaml} \
  ${KAFKA_JMX_OPTS-} ${KAFKA_OPTS-} -cp '/opt/kafka/libs/*' "$@"
