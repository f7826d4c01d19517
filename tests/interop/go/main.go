// The checks of README.md beside this folder, by franz-go.
//
//	interop PHASE BOOTSTRAP RUN BASE_MS WRITERS
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	name            = "franz-go"
	set             = 60
	firstFlush      = 20
	keyed           = 200
	keys            = 17
	keyedPartitions = 6
	bulk            = 20_000
	bulkPartitions  = 3
	smallBytes      = 20_000
	wait            = 20 * time.Second
)

var (
	codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	modes  = []string{"acks-0", "acks-1", "acks-all", "idempotent"}
)

// run is one phase.
type run struct {
	bootstrap []string
	prefix    string
	base      int64
	client    *kgo.Client
	admin     *kadm.Client
	ok        int
	failed    int
}

func main() {
	base, err := strconv.ParseInt(os.Args[4], 10, 64)
	if err != nil {
		panic(err)
	}
	r := &run{bootstrap: strings.Split(os.Args[2], ","), prefix: os.Args[3], base: base}
	r.client = r.connect()
	r.admin = kadm.NewClient(r.client)
	switch os.Args[1] {
	case "write":
		r.write()
	case "read":
		r.read(strings.Split(os.Args[5], ","))
	case "delete":
		r.check("delete", r.delete)
	default:
		panic(os.Args[1])
	}
	r.client.Close()
	fmt.Printf("%s %s: %d ok, %d FAIL, 0 skip\n", name, os.Args[1], r.ok, r.failed)
	if r.failed > 0 {
		os.Exit(1)
	}
}

func (r *run) connect(options ...kgo.Opt) *kgo.Client {
	options = append(options, kgo.SeedBrokers(r.bootstrap...))
	client, err := kgo.NewClient(options...)
	if err != nil {
		panic(err)
	}
	return client
}

func (r *run) check(what string, body func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*wait)
	defer cancel()
	err := body(ctx)
	if err == nil {
		r.ok++
		fmt.Println("ok", what)
		return
	}
	r.failed++
	why := strings.Join(strings.Fields(err.Error()), " ")
	fmt.Printf("FAIL %s: %s\n", what, why[:min(400, len(why))])
}

// What is written.

func (r *run) write() {
	r.check("cluster", r.cluster)
	r.check("create", r.create)
	r.check("describe", r.describe)
	r.check("config", r.config)
	r.check("create-twice", r.createTwice)
	for _, codec := range codecs {
		for partition, mode := range modes {
			r.check(codec+"-"+mode, func(ctx context.Context) error {
				return r.writeSet(ctx, codec, mode, int32(partition))
			})
		}
	}
	r.check("keyed", r.keyed)
	r.check("bulk", r.bulk)
	r.check("nulls", r.nulls)
	r.check("oversize", r.oversize)
	r.check("unknown-topic", r.unknownTopic)
}

// kinds are the topics and their partitions.
func kinds() map[string]int32 {
	kinds := map[string]int32{
		"keyed": keyedPartitions, "bulk": bulkPartitions, "small": 1, "nulls": 1,
	}
	for _, codec := range codecs {
		kinds[codec] = int32(len(modes))
	}
	return kinds
}

func (r *run) topic(kind string) string { return r.prefix + "-" + name + "-" + kind }

func (r *run) topics() []string {
	var topics []string
	for kind := range kinds() {
		topics = append(topics, r.topic(kind))
	}
	return topics
}

func (r *run) nodes(ctx context.Context) ([]int32, int32, error) {
	metadata, err := r.admin.BrokerMetadata(ctx)
	return metadata.Brokers.NodeIDs(), metadata.Controller, err
}

func (r *run) cluster(ctx context.Context) error {
	nodes, controller, err := r.nodes(ctx)
	if err == nil && !slices.Contains(nodes, controller) {
		err = fmt.Errorf("controller %d is none of the nodes %v", controller, nodes)
	}
	return err
}

func (r *run) create(ctx context.Context) error {
	nodes, _, err := r.nodes(ctx)
	if err != nil {
		return err
	}
	for kind, partitions := range kinds() {
		config := map[string]*string{}
		if kind == "small" {
			config["max.message.bytes"] = kadm.StringPtr(strconv.Itoa(smallBytes))
		}
		replicas := int16(min(3, len(nodes)))
		_, err := r.admin.CreateTopic(ctx, partitions, replicas, config, r.topic(kind))
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

func (r *run) describe(ctx context.Context) error {
	nodes, _, err := r.nodes(ctx)
	if err != nil {
		return err
	}
	for kind, partitions := range kinds() {
		topic := r.topic(kind)
		found, err := r.described(ctx, topic, int(partitions))
		if err != nil {
			return err
		}
		for _, p := range found.Sorted() {
			what := fmt.Sprintf("%s-%d", topic, p.Partition)
			replicas, inSync := sorted(p.Replicas), sorted(p.ISR)
			count := len(slices.Compact(slices.Clone(replicas)))
			if err := same(count, min(3, len(nodes)), what+": replicas"); err != nil {
				return err
			}
			if err := same(inSync, replicas, what+": in sync"); err != nil {
				return err
			}
			if !slices.Contains(replicas, p.Leader) {
				return fmt.Errorf("%s: leader %d, replicas %v", what, p.Leader, replicas)
			}
		}
	}
	return nil
}

func sorted(ids []int32) []int32 {
	return slices.Sorted(slices.Values(ids))
}

func (r *run) described(
	ctx context.Context, topic string, partitions int,
) (found kadm.PartitionDetails, err error) {
	err = until(topic+" described", func() bool {
		topics, err := r.admin.ListTopics(ctx, topic)
		if err != nil || topics[topic].Err != nil || len(topics[topic].Partitions) != partitions {
			return false
		}
		found = topics[topic].Partitions
		for _, p := range found {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
		return true
	})
	return found, err
}

func (r *run) config(ctx context.Context) error {
	for _, one := range []struct{ kind, key, value string }{
		{"small", "max.message.bytes", strconv.Itoa(smallBytes)},
		{"none", "max.message.bytes", "1048588"},
		{"none", "compression.type", "producer"},
	} {
		topic := r.topic(one.kind)
		resources, err := r.admin.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return err
		}
		resource, err := resources.On(topic, nil)
		if err != nil {
			return err
		}
		if resource.Err != nil {
			return resource.Err
		}
		found := "absent"
		for _, config := range resource.Configs {
			if config.Key == one.key {
				found = config.MaybeValue()
			}
		}
		if err := same(found, one.value, one.kind+": "+one.key); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) createTwice(ctx context.Context) error {
	_, err := r.admin.CreateTopic(ctx, 1, 1, nil, r.topic("none"))
	return expect(err, kerr.TopicAlreadyExists)
}

func (r *run) writeSet(ctx context.Context, codec, mode string, partition int32) error {
	records := r.set(r.topic(codec), partition)
	client := r.producer(codec, mode)
	defer client.Close()
	offsets, err := produce(ctx, client, records[:firstFlush])
	if err != nil {
		return err
	}
	others, err := produce(ctx, client, records[firstFlush:])
	if err != nil {
		return err
	}
	for i, offset := range append(offsets, others...) {
		if mode != "acks-0" && offset != int64(i) {
			return fmt.Errorf("record %d was acknowledged with offset %d", i, offset)
		}
	}
	return r.readSet(ctx, r.topic(codec), partition)
}

func (r *run) keyed(ctx context.Context) error {
	var records []*kgo.Record
	expected := map[string][]int{}
	for i := range keyed {
		key := fmt.Sprintf("customer-%d", i%keys)
		expected[key] = append(expected[key], i)
		value := []byte(strconv.Itoa(i))
		records = append(records, &kgo.Record{Topic: r.topic("keyed"), Key: []byte(key), Value: value})
	}
	client := r.connect(kgo.ProducerLinger(5 * time.Millisecond)) // with the default partitioner
	defer client.Close()
	if _, err := produce(ctx, client, records); err != nil {
		return err
	}
	found, places, used := map[string][]int{}, map[string]int32{}, map[int32]bool{}
	for partition := range int32(keyedPartitions) {
		records, err := r.fetch(ctx, r.topic("keyed"), partition, -1)
		if err != nil {
			return err
		}
		for _, record := range records {
			key := string(record.Key)
			if place, known := places[key]; known && place != partition {
				return fmt.Errorf("%s is in partitions %d and %d", key, place, partition)
			}
			places[key], used[partition] = partition, true
			number, err := strconv.Atoi(string(record.Value))
			if err != nil {
				return err
			}
			found[key] = append(found[key], number)
		}
	}
	if len(used) < 2 {
		return errors.New("every key is in one partition")
	}
	return same(found, expected, "values by key")
}

func (r *run) bulk(ctx context.Context) error {
	for partition := range int32(bulkPartitions) {
		var records []*kgo.Record
		for i := int(partition); i < bulk; i += bulkPartitions {
			value := fmt.Sprintf("%08d%s", i, strings.Repeat("x", 92))
			records = append(records, r.record(r.topic("bulk"), partition, []byte(value)))
		}
		client := r.producer("lz4", "idempotent")
		_, err := produce(ctx, client, records)
		client.Close()
		if err != nil {
			return err
		}
		if err := r.compare(ctx, r.topic("bulk"), partition, records); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) nulls(ctx context.Context) error {
	one := r.record(r.topic("nulls"), 0, nil)
	one.Headers = []kgo.RecordHeader{{Key: "none"}}
	client := r.producer("none", "idempotent")
	defer client.Close()
	if _, err := produce(ctx, client, []*kgo.Record{one}); err != nil {
		return err
	}
	return r.compare(ctx, r.topic("nulls"), 0, []*kgo.Record{one})
}

func (r *run) oversize(ctx context.Context) error {
	topic := r.topic("small")
	large := r.record(topic, 0, bytes.Repeat([]byte("x"), 2*smallBytes))
	small := r.record(topic, 0, bytes.Repeat([]byte("x"), 100))
	client := r.producer("none", "acks-all")
	defer client.Close()
	_, err := produce(ctx, client, []*kgo.Record{large})
	if err := expect(err, kerr.MessageTooLarge); err != nil {
		return err
	}
	offsets, err := produce(ctx, client, []*kgo.Record{small})
	if err != nil {
		return err
	}
	if err := same(offsets, []int64{0}, "offset of the next record"); err != nil {
		return err
	}
	return r.compare(ctx, topic, 0, []*kgo.Record{small})
}

func (r *run) unknownTopic(ctx context.Context) error {
	topic := r.topic("nowhere")
	client := r.producer("none", "acks-all")
	defer client.Close()
	_, err := produce(ctx, client, []*kgo.Record{r.record(topic, 0, []byte("lost"))})
	if err := expect(err, kerr.UnknownTopicOrPartition); err != nil {
		return err
	}
	topics, err := r.admin.ListTopics(ctx)
	if err == nil && topics.Has(topic) {
		err = fmt.Errorf("%s was created", topic)
	}
	return err
}

// What the others have written, and the end.

func (r *run) read(writers []string) {
	for _, writer := range writers {
		r.check("read-"+writer, func(ctx context.Context) error {
			for _, codec := range codecs {
				for partition := range modes {
					topic := r.prefix + "-" + writer + "-" + codec
					if err := r.readSet(ctx, topic, int32(partition)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

func (r *run) readSet(ctx context.Context, topic string, partition int32) error {
	return r.compare(ctx, topic, partition, r.set(topic, partition))
}

func (r *run) delete(ctx context.Context) error {
	for _, topic := range r.topics() {
		if _, err := r.admin.DeleteTopic(ctx, topic); err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
	}
	return until("topics gone", func() bool {
		found, err := r.admin.ListTopics(ctx)
		return err == nil && !slices.ContainsFunc(r.topics(), found.Has)
	})
}

// The clients.

func (r *run) producer(codec, mode string) *kgo.Client {
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.UnknownTopicRetries(2),
		kgo.ProducerBatchCompression(map[string]kgo.CompressionCodec{
			"none":   kgo.NoCompression(),
			"gzip":   kgo.GzipCompression(),
			"snappy": kgo.SnappyCompression(),
			"lz4":    kgo.Lz4Compression(),
			"zstd":   kgo.ZstdCompression(),
		}[codec]),
	}
	switch mode {
	case "acks-0":
		options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "acks-1":
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "acks-all":
		options = append(options, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DisableIdempotentWrite())
	}
	return r.connect(options...)
}

func produce(ctx context.Context, client *kgo.Client, records []*kgo.Record) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	results := client.ProduceSync(ctx, records...)
	var offsets []int64
	for _, record := range records {
		offsets = append(offsets, record.Offset)
	}
	return offsets, results.FirstErr()
}

// fetch reads `count` records of a partition, or with -1 as many as its end offset says.
func (r *run) fetch(
	ctx context.Context, topic string, partition int32, count int,
) ([]*kgo.Record, error) {
	start := map[int32]kgo.Offset{partition: kgo.NewOffset().At(0)}
	places := map[string]map[int32]kgo.Offset{topic: start}
	client := r.connect(kgo.ConsumePartitions(places), kgo.FetchMaxWait(10*time.Millisecond))
	defer client.Close()
	end, err := r.endOffset(ctx, topic, partition)
	if err != nil {
		return nil, err
	}
	if count < 0 {
		count = end
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var found []*kgo.Record
	for len(found) < count {
		fetches := client.PollFetches(limited)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%s-%d after %d records: %w", topic, partition, len(found), err)
		}
		found = append(found, fetches.Records()...)
	}
	if end, err = r.endOffset(ctx, topic, partition); err != nil {
		return nil, err
	}
	return found, same(end, len(found), fmt.Sprintf("%s-%d: end offset", topic, partition))
}

func (r *run) endOffset(ctx context.Context, topic string, partition int32) (int, error) {
	listed, err := r.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	offset, _ := listed.Lookup(topic, partition)
	return int(offset.Offset), offset.Err
}

// Records and comparisons.

func (r *run) record(topic string, partition int32, value []byte) *kgo.Record {
	timestamp := time.UnixMilli(r.base)
	return &kgo.Record{Topic: topic, Partition: partition, Value: value, Timestamp: timestamp}
}

func (r *run) set(topic string, partition int32) []*kgo.Record {
	var records []*kgo.Record
	for i := range set {
		record := r.record(topic, partition, nil)
		record.Timestamp = time.UnixMilli(r.base + int64(i)*1000)
		switch i % 4 {
		case 0:
		case 1:
			record.Key = []byte{}
		default:
			record.Key = fmt.Appendf(nil, "key-%d", i)
		}
		switch i % 5 {
		case 0:
			if record.Key == nil {
				record.Value = []byte{}
			}
		case 1:
			record.Value = []byte{}
		case 2:
			for b := range 256 {
				record.Value = append(record.Value, byte(b))
			}
		default:
			record.Value = fmt.Appendf(nil, "value-%d-%s", i, strings.Repeat("x", i*7))
		}
		switch i % 3 {
		case 1:
			record.Headers = []kgo.RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "t-%d", i)}}
		case 2:
			record.Headers = []kgo.RecordHeader{
				{Key: "trace", Value: []byte("a")}, {Key: "trace", Value: []byte("b")},
				{Key: "empty", Value: []byte{}}, {Key: "bytes", Value: []byte{0, 255}},
			}
		}
		records = append(records, record)
	}
	return records
}

func line(offset int64, record *kgo.Record) string {
	var headers []string
	for _, header := range record.Headers {
		headers = append(headers, header.Key+"="+text(header.Value))
	}
	return fmt.Sprint(offset, " ", record.Timestamp.UnixMilli(), " ", text(record.Key), " ",
		text(record.Value), " ", headers)
}

func text(data []byte) string {
	if data == nil {
		return "null"
	}
	return "0x" + hex.EncodeToString(data)
}

// compare reads a partition, which must hold these records and no other.
func (r *run) compare(
	ctx context.Context, topic string, partition int32, expected []*kgo.Record,
) error {
	found, err := r.fetch(ctx, topic, partition, len(expected))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s-%d", topic, partition)
	for i := range min(len(found), len(expected)) {
		one, other := line(found[i].Offset, found[i]), line(int64(i), expected[i])
		if err := same(one, other, what); err != nil {
			return err
		}
	}
	return same(len(found), len(expected), what+": records")
}

func same(found, expected any, what string) error {
	if one, other := fmt.Sprint(found), fmt.Sprint(expected); one != other {
		return fmt.Errorf("%s: found %s, expected %s", what, one, other)
	}
	return nil
}

func expect(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return fmt.Errorf("the error: found %v, expected %v", err, expected)
}

// until asks until the answer is true: a real cluster spreads what it knows.
func until(what string, question func() bool) error {
	for limit := time.Now().Add(wait); !question(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("%s: not within %s", what, wait)
		}
	}
	return nil
}
