"""aiokafka, on asyncio."""

import asyncio
import contextlib
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import BrokerResponseError, KafkaError, for_code

import interop

NAMES = {"MessageSizeTooLargeError": "MESSAGE_TOO_LARGE"}


def refused(response):
    """Raises what a response to CreateTopics or DeleteTopics says."""
    for _, code, *_ in getattr(response, "topic_errors", None) or response.topic_error_codes:
        if code:
            raise for_code(code)


class Sender:
    def __init__(self, run, producer):
        self.run, self.producer = run, producer

    def produce(self, topic, partition, records):
        return self.run(self.send(topic, partition, records))

    async def send(self, topic, partition, records):
        sent = [
            await self.producer.send(
                topic,
                key=one.key,
                value=one.value,
                headers=one.headers,
                partition=partition,
                timestamp_ms=one.timestamp,
            )
            for one in records
        ]
        await asyncio.wait_for(self.producer.flush(), interop.WAIT_S)
        return [getattr(await future, "offset", None) for future in sent]


class Client:
    cannot_nulls = "refuses a record of null key and null value"

    def __init__(self, bootstrap):
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete
        self.common = {"bootstrap_servers": bootstrap.split(",")}
        self.run(self.start())

    async def start(self):
        self.admin = AIOKafkaAdminClient(**self.common)
        self.consumer = AIOKafkaConsumer(
            **self.common, group_id=None, auto_offset_reset="none", fetch_max_wait_ms=10
        )
        await self.admin.start()
        await self.consumer.start()

    def close(self):
        self.run(self.consumer.stop())
        self.run(self.admin.close())
        self.loop.close()

    def error_of(self, call, *arguments):
        try:
            call(*arguments)
        except BrokerResponseError as error:
            return NAMES.get(type(error).__name__, error.message)
        except KafkaError as error:
            return f"{type(error).__name__}: {error}"
        return None

    def nodes(self):
        cluster = self.run(self.admin.describe_cluster())
        return [broker["node_id"] for broker in cluster["brokers"]], cluster["controller_id"]

    def create(self, topic, partitions, replicas, config):
        new = NewTopic(topic, partitions, replicas, topic_configs=config)
        refused(self.run(self.admin.create_topics([new])))

    def describe(self, topic):
        (found,) = self.run(self.admin.describe_topics([topic]))
        partitions = sorted(found["partitions"], key=lambda p: p["partition"])
        return [(p["leader"], p["replicas"], p["isr"]) for p in partitions]

    def config(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = self.run(self.admin.describe_configs([resource]))
        return {entry[0]: entry[1] for entry in response.resources[0][4]}

    def topics(self):
        return self.run(self.admin.list_topics())

    def delete(self, topic):
        refused(self.run(self.admin.delete_topics([topic])))

    @contextlib.contextmanager
    def producer(self, codec, mode, patience_s=interop.WAIT_S):
        config = {"compression_type": None if codec == "none" else codec, "linger_ms": 5}
        config["request_timeout_ms"] = patience_s * 1000
        if mode == "idempotent":
            config["enable_idempotence"] = True
        else:
            acks = mode.removeprefix("acks-")
            config["acks"] = acks if acks == "all" else int(acks)
        producer = self.run(self.started(config))
        try:
            yield Sender(self.run, producer)
        finally:
            self.run(producer.stop())

    async def started(self, config):
        producer = AIOKafkaProducer(**self.common, **config)
        await producer.start()
        return producer

    def read(self, topic, partition, count):
        return self.run(self.fetch(TopicPartition(topic, partition), count))

    async def fetch(self, place, count):
        self.consumer.assign([place])
        if count is None:
            count = (await self.consumer.end_offsets([place]))[place]
        self.consumer.seek(place, 0)
        records, limit = [], time.monotonic() + interop.WAIT_S
        while len(records) < count and time.monotonic() < limit:
            for messages in (await self.consumer.getmany(place, timeout_ms=100)).values():
                records += messages
        first = (await self.consumer.beginning_offsets([place]))[place]
        end = (await self.consumer.end_offsets([place]))[place]
        interop.same((first, end), (0, len(records)), f"{place}: first and end offset")
        return [
            interop.Record(m.timestamp, m.key, m.value, m.headers).line(m.offset) for m in records
        ]


if __name__ == "__main__":
    interop.main(Client, "aiokafka")
