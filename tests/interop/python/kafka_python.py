"""kafka-python, in pure Python."""

import contextlib
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import BrokerResponseError, KafkaError, KafkaTimeoutError, for_code

import interop

NAMES = {"MessageSizeTooLargeError": "MESSAGE_TOO_LARGE"}


class Sender:
    def __init__(self, producer):
        self.producer = producer

    def produce(self, topic, partition, records):
        sent = [
            self.producer.send(
                topic,
                key=one.key,
                value=one.value,
                headers=one.headers,
                partition=partition,
                timestamp_ms=one.timestamp,
            )
            for one in records
        ]
        self.producer.flush(timeout=interop.WAIT_S)
        return [future.get(interop.WAIT_S).offset for future in sent]


class Client:
    cannot_nulls = "refuses a record of null key and null value, and null headers"

    def __init__(self, bootstrap):
        self.common = {"bootstrap_servers": bootstrap.split(",")}
        self.admin = KafkaAdminClient(**self.common)
        self.consumer = KafkaConsumer(
            **self.common, group_id=None, auto_offset_reset="none", fetch_max_wait_ms=10
        )

    def close(self):
        self.consumer.close()
        self.admin.close()

    def error_of(self, call, *arguments):
        try:
            call(*arguments)
        except BrokerResponseError as error:
            return NAMES.get(type(error).__name__, error.message)
        except KafkaTimeoutError:  # of a topic's metadata; hides what the broker answered
            (found,) = self.admin.describe_topics([arguments[0]])
            return for_code(found["error_code"]).message
        except KafkaError as error:
            return f"{type(error).__name__}: {error}"
        return None

    def nodes(self):
        cluster = self.admin.describe_cluster()
        return [broker["broker_id"] for broker in cluster["brokers"]], cluster["controller_id"]

    def create(self, topic, partitions, replicas, config):
        new = {"num_partitions": partitions, "replication_factor": replicas, "configs": config}
        self.admin.create_topics({topic: new})

    def describe(self, topic):
        (found,) = self.admin.describe_topics([topic])
        partitions = sorted(found["partitions"], key=lambda p: p["partition_index"])
        return [(p["leader_id"], p["replica_nodes"], p["isr_nodes"]) for p in partitions]

    def config(self, topic):
        resource = ConfigResource("TOPIC", topic)
        found = self.admin.describe_configs([resource], config_filter="all")["topic"][topic]
        return {name: entry["value"] for name, entry in found.items()}

    def topics(self):
        return self.admin.list_topics()

    def delete(self, topic):
        self.admin.delete_topics([topic])

    @contextlib.contextmanager
    def producer(self, codec, mode, patience_s=interop.WAIT_S):
        config = {"compression_type": None if codec == "none" else codec, "linger_ms": 5}
        config["max_block_ms"] = patience_s * 1000
        if mode == "idempotent":
            config["enable_idempotence"] = True
        else:
            acks = mode.removeprefix("acks-")
            config |= {"enable_idempotence": False, "acks": acks if acks == "all" else int(acks)}
        producer = KafkaProducer(**self.common, **config)
        try:
            yield Sender(producer)
        finally:
            producer.close(timeout=interop.WAIT_S)

    def read(self, topic, partition, count):
        place = TopicPartition(topic, partition)
        count = self.consumer.end_offsets([place])[place] if count is None else count
        self.consumer.assign([place])
        self.consumer.seek_to_beginning(place)
        records, limit = [], time.monotonic() + interop.WAIT_S
        while len(records) < count and time.monotonic() < limit:
            for messages in self.consumer.poll(timeout_ms=100).values():
                records += messages
        first = self.consumer.beginning_offsets([place])[place]
        end = self.consumer.end_offsets([place])[place]
        interop.same((first, end), (0, len(records)), f"{topic}-{partition}: first and end offset")
        return [
            interop.Record(m.timestamp, m.key, m.value, m.headers).line(m.offset) for m in records
        ]


if __name__ == "__main__":
    interop.main(Client, "kafka-python")
