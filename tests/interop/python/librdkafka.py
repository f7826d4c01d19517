"""librdkafka, through confluent-kafka."""

import contextlib
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import interop
from librdkafka_transactions import Transactions

NAMES = {
    "_UNKNOWN_TOPIC": "UNKNOWN_TOPIC_OR_PARTITION",
    "UNKNOWN_TOPIC_OR_PART": "UNKNOWN_TOPIC_OR_PARTITION",
    "MSG_SIZE_TOO_LARGE": "MESSAGE_TOO_LARGE",
}


class Sender:
    def __init__(self, config):
        self.producer = Producer(config)

    def produce(self, topic, partition, records):
        reports = []
        for one in records:
            self.producer.produce(
                topic,
                key=one.key,
                value=one.value,
                headers=one.headers,
                timestamp=one.timestamp,
                on_delivery=lambda error, message: reports.append((error, message)),
                **({} if partition is None else {"partition": partition}),
            )
        interop.same(self.producer.flush(interop.WAIT_S), 0, "records left after the flush")
        for error, _ in reports:
            if error is not None:
                raise KafkaException(error)
        return [message.offset() for _, message in reports]


class Client:
    cannot_nulls = None

    def __init__(self, bootstrap):
        self.common = {"bootstrap.servers": bootstrap, "log_level": 3}
        self.admin = AdminClient(self.common)
        group = {"group.id": "none", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
        self.consumer = Consumer(self.common | group | {"auto.offset.reset": "error"})

    def close(self):
        self.consumer.close()

    def more(self, run):
        return Transactions(run, self.common)

    def error_of(self, call, *arguments):
        try:
            call(*arguments)
        except KafkaException as error:
            return NAMES.get(error.args[0].name(), error.args[0].name())
        return None

    def nodes(self):
        cluster = self.admin.describe_cluster(request_timeout=interop.WAIT_S).result()
        return [node.id for node in cluster.nodes], cluster.controller.id

    def create(self, topic, partitions, replicas, config):
        new = NewTopic(topic, partitions, replicas, config=config)
        self.admin.create_topics([new])[topic].result(interop.WAIT_S)

    def describe(self, topic):
        found = self.admin.list_topics(topic, interop.WAIT_S).topics[topic].partitions
        return [(p.leader, p.replicas, p.isrs) for _, p in sorted(found.items())]

    def config(self, topic):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = self.admin.describe_configs([resource])[resource].result(interop.WAIT_S)
        return {name: entry.value for name, entry in found.items()}

    def topics(self):
        return list(self.admin.list_topics(timeout=interop.WAIT_S).topics)

    def delete(self, topic):
        self.admin.delete_topics([topic])[topic].result(interop.WAIT_S)

    @contextlib.contextmanager
    def producer(self, codec, mode, patience_s=interop.WAIT_S):
        config = {"compression.type": codec, "linger.ms": 5}
        config["message.timeout.ms"] = interop.WAIT_S * 1000
        config["topic.metadata.propagation.max.ms"] = patience_s * 1000
        if mode == "idempotent":
            config["enable.idempotence"] = True
        else:
            config["acks"] = mode.removeprefix("acks-")
        yield Sender(self.common | config)

    def read(self, topic, partition, count):
        place = TopicPartition(topic, partition, 0)
        first, end = self.consumer.get_watermark_offsets(place, interop.WAIT_S)
        self.consumer.assign([place])
        count = end if count is None else count
        records, limit = [], time.monotonic() + interop.WAIT_S
        while len(records) < count and time.monotonic() < limit:
            for message in self.consumer.consume(min(1000, count - len(records)), 0.1):
                if message.error():
                    raise KafkaException(message.error())
                records.append(message)
        self.consumer.unassign()
        first, end = self.consumer.get_watermark_offsets(place, interop.WAIT_S)
        interop.same((first, end), (0, len(records)), f"{topic}-{partition}: first and end offset")
        return [
            interop.Record(m.timestamp()[1], m.key(), m.value(), m.headers() or []).line(m.offset())
            for m in records
        ]


if __name__ == "__main__":
    interop.main(Client, "librdkafka")
