#!/bin/bash
# kafka-server-start.sh FILE: runs a broker or a controller with the properties of FILE.
set -eu
export KAFKA_HEAP_OPTS="${KAFKA_HEAP_OPTS:--Xms1G -Xmx1G}"
log4j_file=/opt/kafka/config/log4j2.yaml
[ -e "$log4j_file" ] || log4j_file=/etc/kafka/docker/log4j2.yaml
export KAFKA_LOG4J_OPTS="${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$log4j_file}"
export CLASS_ARCHIVE="${CLASS_ARCHIVE-/opt/kafka/broker.jsa}"
exec kafka-run-class.sh kafka.Kafka "$@"
