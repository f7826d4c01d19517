"""What README.md beside this folder asks of groups and transactions, by librdkafka."""

import contextlib
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import interop

RECORDS = 40
TRANSFERS = 10
TOPICS = {
    "grouped": 4,
    "txn": 2,
    "input": 2,
    "output": 2,
    "stale": 2,
    "fenced": 1,
    "transfers": 3,
}


class Transactions:
    topics = TOPICS

    def __init__(self, run, common):
        self.run, self.common = run, common

    def write(self):
        self.run.check("group", self.group)
        self.run.check("txn", self.commits_and_aborts)
        self.run.check("txn-offsets", self.offsets)
        self.run.check("txn-stale", self.stale_member)
        self.run.check("txn-fenced", self.fenced)

    def read(self):
        self.run.check("read-ours", self.ours)

    def group(self):
        """Two members share a topic, then one has all of it; each record is read once."""
        topic, partitions = self.run.topic("grouped"), TOPICS["grouped"]
        with self.member(topic) as stays:
            with self.member(topic) as leaves:
                settle([stays, leaves], partitions)
                self.write_numbers("grouped", "a")
                interop.same(read([stays, leaves], RECORDS), numbers("a"), "of two members")
                stays.commit(asynchronous=False)
                leaves.commit(asynchronous=False)
            settle([stays], partitions)
            self.write_numbers("grouped", "b")
            interop.same(read([stays], RECORDS), numbers("b"), "of the one that stays")

    def commits_and_aborts(self):
        """Every third of six transactions is aborted, one more is open."""
        topic = self.run.topic("txn")
        producer = self.transactional(topic)
        producer.init_transactions(interop.WAIT_S)
        for i in range(6):
            producer.begin_transaction()
            for partition in range(2):
                producer.produce(topic, b"%d" % i, partition=partition)
            if i % 3 == 2:
                flush(producer)
                producer.abort_transaction(interop.WAIT_S)
            else:
                producer.commit_transaction(interop.WAIT_S)
        producer.begin_transaction()
        producer.produce(topic, b"open", partition=0)
        flush(producer)
        for partition in range(2):
            eventually([b"0", b"1", b"3", b"4"], "committed", self.committed, topic, partition)
        found = values(self.records(topic, 0, "read_uncommitted"))
        interop.same(found, [b"0", b"1", b"2", b"3", b"4", b"5", b"open"], "written")
        producer.commit_transaction(interop.WAIT_S)
        expected = [b"0", b"1", b"3", b"4", b"open"]
        eventually(expected, "in the end", self.committed, topic, 0)

    def offsets(self):
        """A copy that is aborted, and one that is committed, with the offsets of a group."""
        source, target = self.run.topic("input"), self.run.topic("output")
        self.write_numbers("input", "v")
        producer = self.transactional(target)
        producer.init_transactions(interop.WAIT_S)
        with self.member(source) as consumer:
            messages = messages_of([consumer], RECORDS)
            ends = {}
            for one in messages:
                ends[one.partition()] = one.offset() + 1
            next_ones = [TopicPartition(source, *end) for end in ends.items()]
            for decision in ["abort", "commit"]:
                producer.begin_transaction()
                for one in messages:
                    producer.produce(target, one.value(), partition=one.partition())
                metadata = consumer.consumer_group_metadata()
                producer.send_offsets_to_transaction(next_ones, metadata, interop.WAIT_S)
                if decision == "abort":
                    producer.abort_transaction(interop.WAIT_S)
                    found = [one.offset for one in self.committed_offsets(consumer, next_ones)]
                    interop.same([o for o in found if o >= 0], [], "after the abort")
                else:
                    producer.commit_transaction(interop.WAIT_S)
            committed = lambda: [o.offset for o in self.committed_offsets(consumer, next_ones)]
            eventually([RECORDS // 2] * 2, "committed offsets", committed)
        both = lambda: sorted(self.committed(target, 0) + self.committed(target, 1))
        eventually(numbers("v"), "copied", both)

    def stale_member(self):
        """A member of an older generation has its offsets refused; its transaction aborts."""
        topic = self.run.topic("stale")
        producer = self.transactional(topic)
        with self.member(topic) as first:
            settle([first], 2)
            stale = first.consumer_group_metadata()
            with self.member(topic) as second:
                settle([first, second], 2)
                producer.init_transactions(interop.WAIT_S)
                producer.begin_transaction()
                producer.produce(topic, b"of a stale member", partition=0)
                offsets = [TopicPartition(topic, 0, 1)]
                send = producer.send_offsets_to_transaction
                error = error_of(send, offsets, stale, interop.WAIT_S)
                interop.same(error.txn_requires_abort(), True, f"{error} requires an abort")
                producer.abort_transaction(interop.WAIT_S)
                producer.begin_transaction()
                producer.produce(topic, b"of the next", partition=1)
                producer.commit_transaction(interop.WAIT_S)
        eventually([b"of the next"], "committed", self.committed, topic, 1)
        interop.same(self.committed(topic, 0), [], "of the stale member")

    def fenced(self):
        """The younger of two producers with one id fences the older."""
        topic = self.run.topic("fenced")
        older, younger = self.transactional(topic), self.transactional(topic)
        older.init_transactions(interop.WAIT_S)
        older.begin_transaction()
        older.produce(topic, b"of the older", partition=0)
        flush(older)
        younger.init_transactions(interop.WAIT_S)
        younger.begin_transaction()
        younger.produce(topic, b"of the younger", partition=0)
        younger.commit_transaction(interop.WAIT_S)
        error = error_of(older.commit_transaction, interop.WAIT_S)
        interop.same(error.fatal(), True, f"{error} is fatal")
        interop.same(error.code(), KafkaError._FENCED, f"code of {error}")
        eventually([b"of the younger"], "committed", self.committed, topic, 0)

    def ours(self):
        """The example `transfer` of this project's producer has written; each third aborted."""
        for isolation in ["read_committed", "read_uncommitted"]:
            done = [i for i in range(1, TRANSFERS + 1) if i % 3 or isolation == "read_uncommitted"]
            expected = {b"alice": [b"-%d" % i for i in done], b"bob": [b"+%d" % i for i in done]}
            eventually(expected, isolation, self.transfers, isolation)

    def transfers(self, isolation):
        found = {}
        for partition in range(TOPICS["transfers"]):
            for one in self.records(self.run.topic("transfers"), partition, isolation):
                found.setdefault(one.key(), []).append(one.value())
        return found

    # The clients.

    def transactional(self, name):
        return Producer(self.common | {"transactional.id": name, "linger.ms": 5})

    def consumer(self, more):
        config = {"enable.auto.commit": False, "auto.offset.reset": "earliest"}
        config |= {"fetch.wait.max.ms": 10, "enable.partition.eof": True}
        return Consumer(self.common | config | more)

    @contextlib.contextmanager
    def member(self, topic):
        """A consumer of `topic`, in the group of the same name."""
        config = {"group.id": topic, "heartbeat.interval.ms": 200}
        consumer = self.consumer(config | {"isolation.level": "read_committed"})
        consumer.subscribe([topic])
        try:
            yield consumer
        finally:
            consumer.close()

    def committed_offsets(self, consumer, places):
        asked = [TopicPartition(place.topic, place.partition) for place in places]
        return consumer.committed(asked, interop.WAIT_S)

    def committed(self, topic, partition):
        return values(self.records(topic, partition, "read_committed"))

    def records(self, topic, partition, isolation):
        """What a partition holds for whoever reads so, up to where that reader may come."""
        consumer = self.consumer({"group.id": "none", "isolation.level": isolation})
        try:
            consumer.assign([TopicPartition(topic, partition, 0)])
            found, end = [], time.monotonic() + interop.WAIT_S
            while time.monotonic() < end:
                for message in consumer.consume(1000, 0.05):
                    if message.error() is None:
                        found.append(message)
                    elif message.error().code() == KafkaError._PARTITION_EOF:
                        return found
                    else:
                        raise KafkaException(message.error())
            raise interop.Wrong(f"{topic}-{partition}: no end within {interop.WAIT_S} s")
        finally:
            consumer.close()

    def write_numbers(self, kind, prefix):
        """Writes numbers behind a prefix to the partitions in turn."""
        with self.run.client.producer("none", "idempotent") as producer:
            for partition in range(TOPICS[kind]):
                records = [
                    interop.Record(self.run.base, None, value)
                    for value in numbers(prefix)[partition :: TOPICS[kind]]
                ]
                producer.produce(self.run.topic(kind), partition, records)


def settle(members, partitions):
    """Polls until each member has its share of the partitions; nothing is there to be read."""
    found = []

    def settled():
        for member in members:
            found.extend(messages(member))
        return all(len(m.assignment()) == partitions // len(members) for m in members)

    interop.until(settled, "the group settles")
    interop.same(values(found), [], "read while the group settles")


def messages(member):
    found = []
    for message in member.consume(1000, 0.05):
        if message.error() is None:
            found.append(message)
        elif message.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(message.error())
    return found


def messages_of(members, count):
    """Polls until the members have read so many."""
    found = []

    def all_read():
        for member in members:
            found.extend(messages(member))
        return len(found) >= count

    interop.until(all_read, f"{count} records read")
    return found


def read(members, count):
    return sorted(values(messages_of(members, count)))


def values(found):
    return [one.value() for one in found]


def numbers(prefix):
    return [b"%s%04d" % (prefix.encode(), i) for i in range(RECORDS)]


def flush(producer):
    interop.same(producer.flush(interop.WAIT_S), 0, "records left after the flush")


def error_of(call, *arguments):
    try:
        call(*arguments)
    except KafkaException as error:
        return error.args[0]
    raise interop.Wrong("no error")


def eventually(expected, what, question, *arguments):
    """Asks until it is so: markers are written after the end of a transaction is answered."""
    end = time.monotonic() + interop.WAIT_S
    found = question(*arguments)
    while found != expected and time.monotonic() < end:
        time.sleep(0.1)
        found = question(*arguments)
    interop.same(found, expected, what)
