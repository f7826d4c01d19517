import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What README.md beside this folder asks of groups and transactions, by Kafka's own clients. */
final class Transactions {
    static final int GROUPED_PARTITIONS = 4;
    static final int RECORDS = 40;
    static final int TRANSFERS = 10;

    final Interop asked;

    Transactions(Interop asked) {
        this.asked = asked;
    }

    static Map<String, Integer> kinds() {
        return Map.of("grouped", GROUPED_PARTITIONS, "txn", 2, "input", 2, "output", 2,
            "stale", 2, "fenced", 1, "transfers", 3);
    }

    void write() {
        asked.check("group", this::group);
        asked.check("txn", this::commitsAndAborts);
        asked.check("txn-offsets", this::offsets);
        asked.check("txn-stale", this::staleMember);
        asked.check("txn-fenced", this::fenced);
    }

    void read() {
        asked.check("read-ours", this::ours);
    }

    /** Two members share a topic, then one has all of it; each record is read once. */
    void group() throws Exception {
        var topic = asked.topic("grouped");
        try (var stays = member(topic, topic)) {
            try (var leaves = member(topic, topic)) {
                settle(List.of(stays, leaves), GROUPED_PARTITIONS);
                var found = read(List.of(stays, leaves), write(topic, "a"));
                same(found, numbers("a"), "of two members");
                stays.commitSync();
                leaves.commitSync();
            }
            settle(List.of(stays), GROUPED_PARTITIONS);
            same(read(List.of(stays), write(topic, "b")), numbers("b"), "of the one that stays");
        }
    }

    /** Every third of six transactions is aborted, one more is open. */
    void commitsAndAborts() throws Exception {
        var topic = asked.topic("txn");
        try (var producer = transactional(topic)) {
            producer.initTransactions();
            for (int i = 0; i < 6; i++) {
                producer.beginTransaction();
                for (int partition = 0; partition < 2; partition++) {
                    producer.send(record(topic, partition, "" + i));
                }
                if (i % 3 == 2) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
            producer.beginTransaction();
            producer.send(record(topic, 0, "open"));
            producer.flush();
            eventually(List.of("0", "1", "3", "4"), "committed", () -> committed(topic, 0));
            eventually(List.of("0", "1", "3", "4"), "committed", () -> committed(topic, 1));
            var all = List.of("0", "1", "2", "3", "4", "5", "open");
            same(values(topic, 0, "read_uncommitted"), all, "written");
            producer.commitTransaction();
        }
        eventually(List.of("0", "1", "3", "4", "open"), "in the end", () -> committed(topic, 0));
    }

    /** A copy that is aborted, and one that is committed, with the offsets of a group. */
    void offsets() throws Exception {
        var from = asked.topic("input");
        var to = asked.topic("output");
        write(from, "v");
        try (var consumer = member(from, from); var producer = transactional(to)) {
            producer.initTransactions();
            var records = new ArrayList<ConsumerRecord<byte[], byte[]>>();
            Interop.until("all is read", () -> {
                consumer.poll(Duration.ofMillis(50)).forEach(records::add);
                return records.size() >= RECORDS;
            });
            var next = new HashMap<TopicPartition, OffsetAndMetadata>();
            for (var one : records) {
                next.put(new TopicPartition(from, one.partition()),
                    new OffsetAndMetadata(one.offset() + 1));
            }
            var places = next.keySet();
            for (var decision : List.of("abort", "commit")) {
                producer.beginTransaction();
                for (var one : records) {
                    producer.send(record(to, one.partition(), new String(one.value())));
                }
                producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
                if (decision.equals("abort")) {
                    producer.abortTransaction();
                    for (var place : places) {
                        same("" + consumer.committed(places).get(place), "null", "after the abort");
                    }
                } else {
                    producer.commitTransaction();
                }
            }
            for (var place : places) {
                long half = RECORDS / 2;
                eventually(half, "committed offset of " + place,
                    () -> consumer.committed(places).get(place).offset());
            }
        }
        var copied = new ArrayList<>(numbers("v"));
        eventually(copied, "copied", () -> {
            var found = committed(to, 0);
            found.addAll(committed(to, 1));
            found.sort(null);
            return found;
        });
    }

    /** A member of an older generation has its offsets refused, and its transaction aborts. */
    void staleMember() throws Exception {
        var topic = asked.topic("stale");
        try (var first = member(topic, topic); var producer = transactional(topic)) {
            settle(List.of(first), 2);
            var stale = first.groupMetadata();
            try (var second = member(topic, topic)) {
                settle(List.of(first, second), 2);
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(record(topic, 0, "of a stale member"));
                var place = new TopicPartition(topic, 0);
                try {
                    producer.sendOffsetsToTransaction(Map.of(place, new OffsetAndMetadata(1)),
                        stale);
                    throw new Interop.Wrong("the offsets of a stale member are taken");
                } catch (CommitFailedException expected) {
                    producer.abortTransaction();
                }
                producer.beginTransaction();
                producer.send(record(topic, 1, "of the next"));
                producer.commitTransaction();
            }
        }
        eventually(List.of("of the next"), "committed", () -> committed(topic, 1));
        same(committed(topic, 0), List.of(), "of the stale member");
    }

    /** The younger of two producers with one id fences the older. */
    void fenced() throws Exception {
        var topic = asked.topic("fenced");
        try (var older = transactional(topic); var younger = transactional(topic)) {
            older.initTransactions();
            older.beginTransaction();
            older.send(record(topic, 0, "of the older"));
            older.flush();
            younger.initTransactions();
            younger.beginTransaction();
            younger.send(record(topic, 0, "of the younger"));
            younger.commitTransaction();
            try {
                older.commitTransaction();
                throw new Interop.Wrong("the older commits");
            } catch (ProducerFencedException expected) {
                // As it is to be.
            }
        }
        eventually(List.of("of the younger"), "committed", () -> committed(topic, 0));
    }

    /** The example `transfer` of this project's producer has written; every third was aborted. */
    void ours() throws Exception {
        for (var isolation : List.of("read_committed", "read_uncommitted")) {
            var expected = new TreeMap<String, List<String>>();
            for (int i = 1; i <= TRANSFERS; i++) {
                if (i % 3 != 0 || isolation.equals("read_uncommitted")) {
                    expected.computeIfAbsent("alice", any -> new ArrayList<>()).add("-" + i);
                    expected.computeIfAbsent("bob", any -> new ArrayList<>()).add("+" + i);
                }
            }
            eventually(expected, isolation, () -> {
                var found = new TreeMap<String, List<String>>();
                for (int partition = 0; partition < kinds().get("transfers"); partition++) {
                    for (var one : records(asked.topic("transfers"), partition, isolation)) {
                        found.computeIfAbsent(new String(one.key()), any -> new ArrayList<>())
                            .add(new String(one.value()));
                    }
                }
                return found;
            });
        }
    }

    // The clients.

    KafkaProducer<byte[], byte[]> transactional(String id) {
        return new KafkaProducer<>(Map.of("bootstrap.servers", asked.bootstrap,
            "transactional.id", id, "max.block.ms", Interop.WAIT_S * 1000, "linger.ms", 5),
            new ByteArraySerializer(), new ByteArraySerializer());
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        var config = new HashMap<String, Object>(more);
        config.putAll(Map.of("bootstrap.servers", asked.bootstrap, "fetch.max.wait.ms", 10,
            "auto.offset.reset", "earliest", "enable.auto.commit", false));
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(),
            new ByteArrayDeserializer());
    }

    KafkaConsumer<byte[], byte[]> member(String group, String topic) {
        var consumer = consumer(Map.of("group.id", group, "heartbeat.interval.ms", 200,
            "isolation.level", "read_committed"));
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    /** Polls until each member has its share of the partitions; nothing is there to be read. */
    static void settle(List<KafkaConsumer<byte[], byte[]>> members, int partitions)
            throws Exception {
        var read = new ArrayList<String>();
        Interop.until("the group settles", () -> {
            for (var member : members) {
                member.poll(Duration.ofMillis(50))
                    .forEach(one -> read.add(new String(one.value())));
            }
            var share = partitions / members.size();
            return members.stream().allMatch(member -> member.assignment().size() == share);
        });
        same(read, List.of(), "read while the group settles");
    }

    /** Polls until the members have read so many; the values in order. */
    static List<String> read(List<KafkaConsumer<byte[], byte[]>> members, int count)
            throws Exception {
        var found = new ArrayList<String>();
        Interop.until(count + " records are read", () -> {
            for (var member : members) {
                member.poll(Duration.ofMillis(50))
                    .forEach(one -> found.add(new String(one.value())));
            }
            return found.size() >= count;
        });
        found.sort(null);
        return found;
    }

    List<String> committed(String topic, int partition) throws Exception {
        return values(topic, partition, "read_committed");
    }

    List<String> values(String topic, int partition, String isolation) throws Exception {
        var values = new ArrayList<String>();
        for (var one : records(topic, partition, isolation)) {
            values.add(new String(one.value()));
        }
        return values;
    }

    /** What a partition holds for whoever reads so, up to where that reader may come. */
    List<ConsumerRecord<byte[], byte[]>> records(String topic, int partition, String isolation)
            throws Exception {
        try (var consumer = consumer(Map.of("isolation.level", isolation))) {
            var place = new TopicPartition(topic, partition);
            consumer.assign(List.of(place));
            consumer.seekToBeginning(List.of(place));
            long end = consumer.endOffsets(List.of(place)).get(place);
            var found = new ArrayList<ConsumerRecord<byte[], byte[]>>();
            Interop.until(place + " is read", () -> {
                consumer.poll(Duration.ofMillis(50)).forEach(found::add);
                return consumer.position(place) >= end;
            });
            return found;
        }
    }

    /** Writes numbers behind a prefix to the partitions in turn; how many. */
    int write(String topic, String prefix) throws Exception {
        var partitions = kinds().get(topic.substring(topic.lastIndexOf('-') + 1));
        var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < RECORDS; i++) {
            records.add(record(topic, i % partitions, number(prefix, i)));
        }
        try (var producer = asked.producer("none", "idempotent", Interop.WAIT_S)) {
            asked.produce(producer, records);
        }
        return RECORDS;
    }

    static List<String> numbers(String prefix) {
        var numbers = new ArrayList<String>();
        for (int i = 0; i < RECORDS; i++) {
            numbers.add(number(prefix, i));
        }
        return numbers;
    }

    static String number(String prefix, int number) {
        return String.format("%s%04d", prefix, number);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int partition, String value) {
        return new ProducerRecord<>(topic, partition, null, Interop.bytes(value));
    }

    static void same(Object found, Object expected, String what) throws Interop.Wrong {
        Interop.same(found, expected, what);
    }

    /** Asks until it is so: markers are written after the end of a transaction is answered. */
    static void eventually(Object expected, String what, Callable<?> question) throws Exception {
        var limit = System.nanoTime() + Interop.WAIT_S * 1_000_000_000L;
        var found = question.call();
        while (!found.equals(expected) && System.nanoTime() < limit) {
            Thread.sleep(100);
            found = question.call();
        }
        same(found, expected, what);
    }
}
