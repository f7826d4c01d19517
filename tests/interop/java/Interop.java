import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The checks of README.md beside this folder, by Apache Kafka's own clients.
 *
 * <p>{@code Interop PHASE BOOTSTRAP RUN BASE_MS WRITERS}
 */
public final class Interop {
    static final String NAME = "java";
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final List<String> MODES = List.of("acks-0", "acks-1", "acks-all", "idempotent");
    static final int SET = 60;
    static final int FIRST_FLUSH = 20;
    static final int KEYED = 200;
    static final int KEYS = 17;
    static final int KEYED_PARTITIONS = 6;
    static final int BULK = 20_000;
    static final int BULK_PARTITIONS = 3;
    static final int SMALL_BYTES = 20_000;
    static final int WAIT_S = 20;

    interface Body {
        void run() throws Exception;
    }

    @SuppressWarnings("serial")
    static final class Wrong extends Exception {
        Wrong(String message) {
            super(message);
        }
    }

    final String bootstrap;
    final String run;
    final long base;
    final Admin admin;
    final KafkaConsumer<byte[], byte[]> consumer;
    int ok;
    int failed;

    Interop(String bootstrap, String run, long base) {
        this.bootstrap = bootstrap;
        this.run = run;
        this.base = base;
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        var bytes = new ByteArrayDeserializer();
        consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap,
            "auto.offset.reset", "none", "fetch.max.wait.ms", 10), bytes, bytes);
    }

    public static void main(String[] arguments) {
        var interop = new Interop(arguments[1], arguments[2], Long.parseLong(arguments[3]));
        switch (arguments[0]) {
            case "write" -> interop.write();
            case "read" -> interop.read(arguments[4].split(","));
            case "delete" -> interop.check("delete", interop::delete);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        interop.consumer.close();
        interop.admin.close();
        System.out.printf("%s %s: %d ok, %d FAIL, 0 skip%n", NAME, arguments[0], interop.ok,
            interop.failed);
        System.exit(interop.failed > 0 ? 1 : 0);
    }

    void check(String name, Body body) {
        try {
            body.run();
            ok++;
            System.out.println("ok " + name);
        } catch (Exception error) {
            failed++;
            if (!(error instanceof Wrong)) {
                error.printStackTrace();
            }
            var why = (error instanceof Wrong ? error.getMessage() : error.toString());
            why = why.replaceAll("\\s+", " ");
            why = why.substring(0, Math.min(400, why.length()));
            System.out.println("FAIL " + name + ": " + why);
        }
    }

    // What is written.

    void write() {
        check("cluster", this::cluster);
        check("create", this::create);
        check("describe", this::describe);
        check("config", this::config);
        check("create-twice", this::createTwice);
        for (var codec : CODECS) {
            for (var mode : MODES) {
                check(codec + "-" + mode, () -> writeSet(codec, mode));
            }
        }
        check("keyed", this::keyed);
        check("bulk", this::bulk);
        check("nulls", this::nulls);
        check("oversize", this::oversize);
        check("unknown-topic", this::unknownTopic);
        new Transactions(this).write();
    }

    /** Kind → partitions. */
    static Map<String, Integer> kinds() {
        var kinds = new TreeMap<String, Integer>();
        CODECS.forEach(codec -> kinds.put(codec, MODES.size()));
        kinds.putAll(Map.of("keyed", KEYED_PARTITIONS, "bulk", BULK_PARTITIONS));
        kinds.putAll(Map.of("small", 1, "nulls", 1));
        kinds.putAll(Transactions.kinds());
        return kinds;
    }

    String topic(String kind) {
        return run + "-" + NAME + "-" + kind;
    }

    Set<Integer> nodes() throws Exception {
        var ids = new TreeSet<Integer>();
        admin.describeCluster().nodes().get().forEach(node -> ids.add(node.id()));
        return ids;
    }

    int replicas() throws Exception {
        return Math.min(3, nodes().size());
    }

    void cluster() throws Exception {
        var controller = admin.describeCluster().controller().get();
        if (!nodes().contains(controller.id())) {
            throw new Wrong("controller " + controller + " is none of the nodes " + nodes());
        }
    }

    void create() throws Exception {
        var topics = new ArrayList<NewTopic>();
        for (var kind : kinds().entrySet()) {
            var topic = new NewTopic(topic(kind.getKey()), kind.getValue(), (short) replicas());
            if (kind.getKey().equals("small")) {
                topic.configs(Map.of("max.message.bytes", "" + SMALL_BYTES));
            }
            topics.add(topic);
        }
        admin.createTopics(topics).all().get();
    }

    void describe() throws Exception {
        var nodes = nodes();
        for (var kind : kinds().entrySet()) {
            var topic = topic(kind.getKey());
            until(topic + " described", () -> isDescribed(topic, kind.getValue()));
            for (var partition : described(topic).partitions()) {
                describe(topic + "-" + partition.partition(), partition, nodes);
            }
        }
    }

    void describe(String what, TopicPartitionInfo found, Set<Integer> nodes) throws Exception {
        var replicas = new TreeSet<>(found.replicas().stream().map(Node::id).toList());
        same(replicas.size(), replicas(), what + ": replicas");
        var inSync = new TreeSet<>(found.isr().stream().map(Node::id).toList());
        same(inSync, replicas, what + ": in sync");
        if (!replicas.contains(found.leader().id()) || !nodes.containsAll(replicas)) {
            throw new Wrong(what + ": " + found + ", nodes " + nodes);
        }
    }

    TopicDescription described(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    boolean isDescribed(String topic, int partitions) {
        try {
            var found = described(topic).partitions();
            return found.size() == partitions
                && found.stream().allMatch(p -> p.leader() != null && p.leader().id() >= 0);
        } catch (Exception error) {
            return false;
        }
    }

    void config() throws Exception {
        same(config("small", "max.message.bytes"), "" + SMALL_BYTES, "max.message.bytes");
        same(config("none", "max.message.bytes"), "1048588", "max.message.bytes by default");
        same(config("none", "compression.type"), "producer", "compression.type by default");
    }

    String config(String kind, String key) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic(kind));
        Config found = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        return found.get(key).value();
    }

    void createTwice() throws Exception {
        var topic = new NewTopic(topic("none"), 1, (short) 1);
        expect(Errors.TOPIC_ALREADY_EXISTS, () -> admin.createTopics(List.of(topic)).all().get());
    }

    void writeSet(String codec, String mode) throws Exception {
        var partition = MODES.indexOf(mode);
        var offsets = new ArrayList<Long>();
        var set = set(topic(codec), partition);
        try (var producer = producer(codec, mode, WAIT_S)) {
            offsets.addAll(produce(producer, set.subList(0, FIRST_FLUSH)));
            offsets.addAll(produce(producer, set.subList(FIRST_FLUSH, SET)));
        }
        for (int i = 0; i < SET && !mode.equals("acks-0"); i++) {
            same(offsets.get(i), (long) i, "offset acknowledged");
        }
        readSet(topic(codec), partition);
    }

    void keyed() throws Exception {
        var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < KEYED; i++) {
            records.add(new ProducerRecord<>(topic("keyed"), null, base,
                bytes("customer-" + i % KEYS), bytes("" + i)));
        }
        try (var producer = producer("none", "idempotent", WAIT_S)) {
            produce(producer, records);
        }
        var values = new TreeMap<String, List<Integer>>();
        var partitions = new TreeMap<String, Set<Integer>>();
        for (int partition = 0; partition < KEYED_PARTITIONS; partition++) {
            for (var found : fetch(topic("keyed"), partition, -1)) {
                var key = new String(found.key());
                values.computeIfAbsent(key, any -> new ArrayList<>())
                    .add(Integer.parseInt(new String(found.value())));
                partitions.computeIfAbsent(key, any -> new TreeSet<>()).add(partition);
            }
        }
        var expected = new TreeMap<String, List<Integer>>();
        for (int i = 0; i < KEYED; i++) {
            expected.computeIfAbsent("customer-" + i % KEYS, any -> new ArrayList<>()).add(i);
        }
        same(values, expected, "values by key");
        var all = new TreeSet<Integer>();
        for (var found : partitions.entrySet()) {
            same(found.getValue().size(), 1, "partitions of " + found.getKey());
            all.addAll(found.getValue());
        }
        if (all.size() < 2) {
            throw new Wrong("every key is in one partition");
        }
    }

    void bulk() throws Exception {
        var topic = topic("bulk");
        for (int partition = 0; partition < BULK_PARTITIONS; partition++) {
            var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
            for (int i = partition; i < BULK; i += BULK_PARTITIONS) {
                var value = bytes(String.format("%08d", i) + "x".repeat(92));
                records.add(new ProducerRecord<>(topic, partition, base, null, value));
            }
            try (var producer = producer("lz4", "idempotent", WAIT_S)) {
                produce(producer, records);
            }
            sameLines(fetch(topic, partition, records.size()), records, topic + "-" + partition);
        }
    }

    void nulls() throws Exception {
        var none = List.<Header>of(new RecordHeader("none", (byte[]) null));
        var one = new ProducerRecord<byte[], byte[]>(topic("nulls"), 0, base, null, null, none);
        try (var producer = producer("none", "idempotent", WAIT_S)) {
            produce(producer, List.of(one));
        }
        sameLines(fetch(topic("nulls"), 0, 1), List.of(one), "read");
    }

    void oversize() throws Exception {
        var topic = topic("small");
        var large = new ProducerRecord<byte[], byte[]>(topic, 0, base, null,
            new byte[2 * SMALL_BYTES]);
        var small = new ProducerRecord<byte[], byte[]>(topic, 0, base, null, new byte[100]);
        try (var producer = producer("none", "acks-all", WAIT_S)) {
            expect(Errors.MESSAGE_TOO_LARGE, () -> produce(producer, List.of(large)));
            same(produce(producer, List.of(small)), List.of(0L), "offset of the next record");
        }
        sameLines(fetch(topic, 0, 1), List.of(small), "read");
    }

    void unknownTopic() throws Exception {
        var topic = topic("nowhere");
        var lost = new ProducerRecord<byte[], byte[]>(topic, 0, base, null, bytes("lost"));
        try (var producer = producer("none", "acks-all", 3)) {
            expect(Errors.UNKNOWN_TOPIC_OR_PARTITION, () -> produce(producer, List.of(lost)));
        }
        if (topics().contains(topic)) {
            throw new Wrong(topic + " was created");
        }
    }

    // What the others have written, and the end.

    void read(String[] writers) {
        for (var writer : writers) {
            check("read-" + writer, () -> {
                for (var codec : CODECS) {
                    for (int partition = 0; partition < MODES.size(); partition++) {
                        readSet(run + "-" + writer + "-" + codec, partition);
                    }
                }
            });
        }
        new Transactions(this).read();
    }

    void readSet(String topic, int partition) throws Exception {
        var found = fetch(topic, partition, SET);
        sameLines(found, set(topic, partition), topic + "-" + partition);
    }

    void delete() throws Exception {
        var topics = kinds().keySet().stream().map(this::topic).toList();
        admin.deleteTopics(topics).all().get();
        until("topics gone", () -> {
            try {
                return topics().stream().noneMatch(topics::contains);
            } catch (Exception error) {
                return false;
            }
        });
    }

    // The clients.

    KafkaProducer<byte[], byte[]> producer(String codec, String mode, int patienceS) {
        var config = new HashMap<String, Object>(Map.of("bootstrap.servers", bootstrap,
            "compression.type", codec, "linger.ms", 5, "max.block.ms", patienceS * 1000));
        var idempotent = mode.equals("idempotent");
        config.put("enable.idempotence", idempotent);
        config.put("acks", idempotent ? "all" : mode.substring("acks-".length()));
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    List<Long> produce(KafkaProducer<byte[], byte[]> producer,
            List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        var sent = new ArrayList<Future<RecordMetadata>>();
        for (var one : records) {
            sent.add(producer.send(one));
        }
        producer.flush();
        var offsets = new ArrayList<Long>();
        for (var future : sent) {
            offsets.add(future.get(WAIT_S, TimeUnit.SECONDS).offset());
        }
        return offsets;
    }

    /** What a partition holds: `count` records, or with -1 as many as its end offset says. */
    List<ConsumerRecord<byte[], byte[]>> fetch(String topic, int partition, int count)
            throws Wrong {
        var place = new TopicPartition(topic, partition);
        var places = List.of(place);
        consumer.assign(places);
        consumer.seekToBeginning(places);
        long wanted = count >= 0 ? count : consumer.endOffsets(places).get(place);
        var found = new ArrayList<ConsumerRecord<byte[], byte[]>>();
        var limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
        while (found.size() < wanted && System.nanoTime() < limit) {
            consumer.poll(Duration.ofMillis(100)).forEach(found::add);
        }
        same(consumer.beginningOffsets(places).get(place), 0L, place + ": first offset");
        same(consumer.endOffsets(places).get(place), (long) found.size(), place + ": end offset");
        return found;
    }

    Set<String> topics() throws Exception {
        return admin.listTopics().names().get();
    }

    // Records and comparisons.

    List<ProducerRecord<byte[], byte[]>> set(String topic, int partition) {
        var set = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < SET; i++) {
            byte[] key = switch (i % 4) {
                case 0 -> null;
                case 1 -> new byte[0];
                default -> bytes("key-" + i);
            };
            set.add(new ProducerRecord<>(topic, partition, base + i * 1000L, key, value(i, key),
                headers(i)));
        }
        return set;
    }

    static byte[] value(int i, byte[] key) {
        return switch (i % 5) {
            case 0 -> key == null ? new byte[0] : null;
            case 1 -> new byte[0];
            case 2 -> {
                var all = new byte[256];
                for (int b = 0; b < all.length; b++) {
                    all[b] = (byte) b;
                }
                yield all;
            }
            default -> bytes("value-" + i + "-" + "x".repeat(i * 7));
        };
    }

    static List<Header> headers(int i) {
        return switch (i % 3) {
            case 0 -> List.of();
            case 1 -> List.of(new RecordHeader("trace", bytes("t-" + i)));
            default -> List.of(new RecordHeader("trace", bytes("a")),
                new RecordHeader("trace", bytes("b")), new RecordHeader("empty", new byte[0]),
                new RecordHeader("bytes", new byte[] {0, -1}));
        };
    }

    static byte[] bytes(String text) {
        return text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    static String line(long offset, long timestamp, byte[] key, byte[] value, Header[] headers) {
        var texts = Arrays.stream(headers).map(h -> h.key() + "=" + text(h.value())).toList();
        return offset + " " + timestamp + " " + text(key) + " " + text(value) + " " + texts;
    }

    static String text(byte[] data) {
        return data == null ? "null" : "0x" + HexFormat.of().formatHex(data);
    }

    static void sameLines(List<ConsumerRecord<byte[], byte[]>> found,
            List<ProducerRecord<byte[], byte[]>> expected, String what) throws Wrong {
        for (int i = 0; i < Math.min(found.size(), expected.size()); i++) {
            var one = found.get(i);
            var other = expected.get(i);
            same(line(one.offset(), one.timestamp(), one.key(), one.value(),
                    one.headers().toArray()),
                line(i, other.timestamp(), other.key(), other.value(), other.headers().toArray()),
                what);
        }
        same(found.size(), expected.size(), what + ": records");
    }

    static void same(Object found, Object expected, String what) throws Wrong {
        if (!found.equals(expected)) {
            throw new Wrong(what + ": found " + found + ", expected " + expected);
        }
    }

    /** Runs what has to fail with a code of the broker, possibly as the cause of a time-out. */
    static void expect(Errors code, Body body) throws Exception {
        try {
            body.run();
        } catch (ExecutionException error) {
            var cause = error.getCause();
            var inner = cause.getCause() == null ? cause : cause.getCause();
            if (Errors.forException(cause) != code && Errors.forException(inner) != code) {
                throw new Wrong("the error: found " + cause + " of " + inner
                    + ", expected " + code);
            }
            return;
        }
        throw new Wrong("no error, expected " + code);
    }

    /** Asks until the answer is true: a real cluster spreads what it knows. */
    static void until(String what, BooleanSupplier question) throws Exception {
        var limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
        while (!question.getAsBoolean()) {
            if (System.nanoTime() > limit) {
                throw new Wrong(what + ": not within " + WAIT_S + " s");
            }
            Thread.sleep(100);
        }
    }
}
