"""What every Python client is asked: the records, the checks, and the order of both.

README.md beside this folder says what each check means. A client is a module with a class `Client`
that has the methods used here; `main` runs one phase of it.
"""

import sys
import time
import traceback

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
MODES = ["acks-0", "acks-1", "acks-all", "idempotent"]
SET = 60
FIRST_FLUSH = 20
KEYED, KEYS, KEYED_PARTITIONS = 200, 17, 6
BULK, BULK_PARTITIONS = 20_000, 3
SMALL_BYTES = 20_000
WAIT_S = 20


class Record:
    """One record; `headers` is a list of (name, value), bytes everywhere but in names."""

    def __init__(self, timestamp, key, value, headers=()):
        self.timestamp, self.key, self.value, self.headers = timestamp, key, value, list(headers)

    def line(self, offset):
        headers = ",".join(f"{name}={text(value)}" for name, value in self.headers)
        return f"{offset} {self.timestamp} {text(self.key)} {text(self.value)} [{headers}]"


def text(data):
    return "null" if data is None else "0x" + bytes(data).hex()


def record(i, base):
    """Record `i` of the set that every client writes and reads."""
    key = [None, b"", b"key-%d" % i, b"key-%d" % i][i % 4]
    if i % 5 == 0:
        value = b"" if key is None else None
    elif i % 5 == 1:
        value = b""
    elif i % 5 == 2:
        value = bytes(range(256))
    else:
        value = b"value-%d-" % i + b"x" * (i * 7)
    headers = [
        [],
        [("trace", b"t-%d" % i)],
        [("trace", b"a"), ("trace", b"b"), ("empty", b""), ("bytes", bytes([0, 255]))],
    ][i % 3]
    return Record(base + i * 1000, key, value, headers)


class Wrong(Exception):
    """What was found is not what was expected."""


def same(found, expected, what):
    if found != expected:
        raise Wrong(f"{what}: found {found!r}, expected {expected!r}")


def same_lines(found, expected, what):
    for i, (one, other) in enumerate(zip(found, expected)):
        if one != other:
            raise Wrong(f"{what}: record {i} is {one[:200]}, expected {other[:200]}")
    same(len(found), len(expected), f"{what}: records")


def until(ask, what):
    """Asks until the answer is true: a real cluster spreads what it knows."""
    end = time.monotonic() + WAIT_S
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Wrong(f"{what}: not within {WAIT_S} s")
        time.sleep(0.1)


class Run:
    def __init__(self, client, name, run, base, writers):
        self.client, self.name, self.base, self.writers = client, name, base, writers
        self.prefix = run
        # What this client alone is asked; with `write`, `read`, and topics of its own.
        self.more = client.more(self) if hasattr(client, "more") else None
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def topic(self, kind, writer=None):
        return f"{self.prefix}-{writer or self.name}-{kind}"

    def check(self, name, body, *arguments):
        try:
            reason = body(*arguments)
            verdict = "skip" if reason else "ok"
        except Exception as error:  # whatever a client raises is its verdict
            verdict, reason = "FAIL", f"{type(error).__name__}: {error}"
            if not isinstance(error, Wrong):
                traceback.print_exc()
        self.counts[verdict] += 1
        reason = " ".join(str(reason).split())[:400] if reason else ""
        print(f"{verdict} {name}" + (f": {reason}" if reason else ""), flush=True)

    # What is written.

    def write(self):
        self.check("cluster", self.cluster)
        self.check("create", self.create)
        self.check("describe", self.describe)
        self.check("config", self.config)
        self.check("create-twice", self.create_twice)
        for codec in CODECS:
            for partition, mode in enumerate(MODES):
                self.check(f"{codec}-{mode}", self.write_set, codec, partition, mode)
        self.check("keyed", self.keyed)
        self.check("bulk", self.bulk)
        self.check("nulls", self.nulls)
        self.check("oversize", self.oversize)
        self.check("unknown-topic", self.unknown_topic)
        if self.more:
            self.more.write()

    def topics(self):
        """Kind → partitions."""
        kinds = {codec: len(MODES) for codec in CODECS}
        kinds |= {"keyed": KEYED_PARTITIONS, "bulk": BULK_PARTITIONS, "small": 1, "nulls": 1}
        return kinds | (self.more.topics if self.more else {})

    def replicas(self):
        return min(3, len(self.client.nodes()[0]))

    def cluster(self):
        nodes, controller = self.client.nodes()
        if not nodes or controller not in nodes:
            raise Wrong(f"controller {controller} is none of the nodes {nodes}")

    def create(self):
        for kind, partitions in self.topics().items():
            config = {"max.message.bytes": str(SMALL_BYTES)} if kind == "small" else {}
            self.client.create(self.topic(kind), partitions, self.replicas(), config)

    def describe(self):
        nodes, _ = self.client.nodes()
        for kind, partitions in self.topics().items():
            topic = self.topic(kind)
            found = until(lambda: self.described(topic, partitions), f"{topic} described")
            for partition, (leader, replicas, isr) in enumerate(found):
                what = f"{topic}-{partition}"
                same(len(set(replicas)), self.replicas(), f"{what}: replicas")
                same(sorted(isr), sorted(replicas), f"{what}: in sync")
                if leader not in replicas or not set(replicas) <= set(nodes):
                    raise Wrong(f"{what}: leader {leader}, replicas {replicas}, nodes {nodes}")

    def described(self, topic, partitions):
        found = self.client.describe(topic)
        ready = len(found) == partitions and all(leader >= 0 for leader, _, _ in found)
        return found if ready else None

    def config(self):
        found = self.client.config(self.topic("small"))
        same(found.get("max.message.bytes"), str(SMALL_BYTES), "max.message.bytes")
        found = self.client.config(self.topic("none"))
        same(found.get("max.message.bytes"), "1048588", "max.message.bytes by default")
        same(found.get("compression.type"), "producer", "compression.type by default")

    def create_twice(self):
        error = self.client.error_of(self.client.create, self.topic("none"), 1, 1, {})
        same(error, "TOPIC_ALREADY_EXISTS", "the error")

    def write_set(self, codec, partition, mode):
        topic, records = self.topic(codec), [record(i, self.base) for i in range(SET)]
        with self.client.producer(codec, mode) as producer:
            offsets = producer.produce(topic, partition, records[:FIRST_FLUSH])
            offsets += producer.produce(topic, partition, records[FIRST_FLUSH:])
        if mode != "acks-0":
            same(offsets, list(range(SET)), "offsets acknowledged")
        self.read_set(topic, partition)

    def read_set(self, topic, partition):
        expected = [record(i, self.base).line(i) for i in range(SET)]
        found = self.client.read(topic, partition, SET)
        same_lines(found, expected, f"{topic}-{partition}")

    def keyed(self):
        topic = self.topic("keyed")
        records = [Record(self.base, b"customer-%d" % (i % KEYS), b"%d" % i) for i in range(KEYED)]
        with self.client.producer("none", "idempotent") as producer:
            producer.produce(topic, None, records)
        values = {}
        for partition in range(KEYED_PARTITIONS):
            for _, _, key, value, _ in map(str.split, self.client.read(topic, partition, None)):
                number = int(bytes.fromhex(value[2:]))
                values.setdefault(key, []).append((partition, number))
        expected = {text(b"customer-%d" % k): list(range(k, KEYED, KEYS)) for k in range(KEYS)}
        found = {key: [number for _, number in pairs] for key, pairs in values.items()}
        same(found, expected, "values by key")
        for key, pairs in values.items():
            same(len({partition for partition, _ in pairs}), 1, f"partitions of {key}")
        if len({pairs[0][0] for pairs in values.values()}) < 2:
            raise Wrong("every key is in one partition")

    def bulk(self):
        topic = self.topic("bulk")
        for partition in range(BULK_PARTITIONS):
            numbers = range(partition, BULK, BULK_PARTITIONS)
            records = [Record(self.base, None, b"%08d" % i + b"x" * 92) for i in numbers]
            with self.client.producer("lz4", "idempotent") as producer:
                producer.produce(topic, partition, records)
            expected = [one.line(offset) for offset, one in enumerate(records)]
            found = self.client.read(topic, partition, len(records))
            same_lines(found, expected, f"{topic}-{partition}")

    def nulls(self):
        reason = self.client.cannot_nulls
        if reason:
            return reason
        one = Record(self.base, None, None, [("none", None)])
        with self.client.producer("none", "idempotent") as producer:
            producer.produce(self.topic("nulls"), 0, [one])
        same_lines(self.client.read(self.topic("nulls"), 0, 1), [one.line(0)], "read")

    def oversize(self):
        topic = self.topic("small")
        large, small = (Record(self.base, None, b"x" * n) for n in (SMALL_BYTES * 2, 100))
        with self.client.producer("none", "acks-all") as producer:
            error = self.client.error_of(producer.produce, topic, 0, [large])
            same(error, "MESSAGE_TOO_LARGE", "the error")
            same(producer.produce(topic, 0, [small]), [0], "offset of the next record")
        same_lines(self.client.read(topic, 0, 1), [small.line(0)], "read")

    def unknown_topic(self):
        topic = self.topic("nowhere")
        one = Record(self.base, None, b"lost")
        with self.client.producer("none", "acks-all", patience_s=3) as producer:
            error = self.client.error_of(producer.produce, topic, 0, [one])
        same(error, "UNKNOWN_TOPIC_OR_PARTITION", "the error")
        if topic in self.client.topics():
            raise Wrong(f"{topic} was created")

    # What the others have written, and the end.

    def read(self):
        for writer in self.writers:
            self.check(f"read-{writer}", self.read_writer, writer)
        if self.more:
            self.more.read()

    def read_writer(self, writer):
        for codec in CODECS:
            for partition in range(len(MODES)):
                self.read_set(self.topic(codec, writer), partition)

    def delete(self):
        self.check("delete", self.delete_topics)

    def delete_topics(self):
        topics = [self.topic(kind) for kind in self.topics()]
        for topic in topics:
            self.client.delete(topic)
        until(lambda: not set(topics) & set(self.client.topics()), "topics gone")


def main(client, name):
    phase, bootstrap, run, base, writers = sys.argv[1:]
    run = Run(client(bootstrap), name, run, int(base), writers.split(","))
    {"write": run.write, "read": run.read, "delete": run.delete}[phase]()
    run.client.close()
    counts = run.counts
    print(f"{name} {phase}: {counts['ok']} ok, {counts['FAIL']} FAIL, {counts['skip']} skip")
    sys.exit(1 if counts["FAIL"] else 0)
