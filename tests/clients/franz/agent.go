// An agent of franz-go: lines of JSON in, lines of JSON out, as tests/support/kafka_clients/agent.py says.
//
//	agent ADDRESS
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const wait = 30 * time.Second

type call struct {
	ID         int               `json:"id"`
	Op         string            `json:"op"`
	Records    []record          `json:"records"`
	Codec      string            `json:"codec"`
	Acks       string            `json:"acks"`
	Idempotent *bool             `json:"idempotent"`
	MaxBytes   int32             `json:"max_bytes"`
	Topic      string            `json:"topic"`
	Topics     []string          `json:"topics"`
	Partition  int32             `json:"partition"`
	Partitions int32             `json:"partitions"`
	Offset     int64             `json:"offset"`
	Count      int               `json:"count"`
	Name       string            `json:"name"`
	Value      string            `json:"value"`
	Configs    map[string]string `json:"configs"`
	Group      string            `json:"group"`
	Member     string            `json:"member"`
	Stream     string            `json:"stream"`
	Assignor   string            `json:"assignor"`
	AutoCommit bool              `json:"auto_commit"`
	CommitEach bool              `json:"commit_each"`
	Reset      string            `json:"reset"`
	SessionMs  int               `json:"session_timeout_ms"`
	InstanceID string            `json:"instance_id"`
	TimeMs     int64             `json:"timestamp_ms"`
}

// Bytes are base64 in JSON, and nil is null, in Go as in the protocol between agents and tests.
type record struct {
	Topic     string           `json:"topic"`
	Partition int32            `json:"partition"`
	Offset    int64            `json:"offset"`
	Key       []byte           `json:"key"`
	Value     []byte           `json:"value"`
	Headers   [][2]interface{} `json:"headers"`
	TimeMs    *int64           `json:"timestamp_ms"`
}

type answer map[string]interface{}

var (
	address string
	output  sync.Mutex
	members = map[string]*member{}
	streams = map[string]*stream{}
)

func main() {
	address = os.Args[1]
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked call
		if err := json.Unmarshal(line, &asked); err != nil {
			panic(err)
		}
		if result, err := run(&asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			say(answer{"id": asked.ID, "error": err.Error()})
		} else {
			say(answer{"id": asked.ID, "ok": result})
		}
	}
}

func say(message answer) {
	text, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(text, '\n'))
}

func run(asked *call) (interface{}, error) {
	switch asked.Op {
	case "produce":
		return produce(asked)
	case "read":
		return read(asked)
	case "join":
		return nil, join(asked)
	case "commit":
		return nil, members[asked.Member].do((*member).commit)
	case "pause":
		members[asked.Member].client.PauseFetchPartitions(place(asked))
		return nil, nil
	case "resume":
		members[asked.Member].client.ResumeFetchPartitions(place(asked))
		return nil, nil
	case "seek":
		return nil, members[asked.Member].do(func(m *member) error { return m.seek(asked) })
	case "leave":
		members[asked.Member].leave()
		delete(members, asked.Member)
		return nil, nil
	case "stream":
		return nil, startStream(asked)
	case "stop":
		return streams[asked.Stream].stop(), nil
	}
	client, err := newClient()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return administer(ctx, kadm.NewClient(client), asked)
}

func place(asked *call) map[string][]int32 {
	return map[string][]int32{asked.Topic: {asked.Partition}}
}

func newClient(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(address),
		kgo.ClientID("franz-go"),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.MetadataMaxAge(time.Second),
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}, options...)...)
}

// ------------------------------------------------------------------------------------------------------------ records

func newProducer(asked *call, isIdempotent bool) (*kgo.Client, error) {
	codecs := map[string]kgo.CompressionCodec{
		"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"": kgo.AllISRAcks(), "all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[asked.Codec]),
		kgo.RequiredAcks(acks[asked.Acks]),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.UnknownTopicRetries(-1),
	}
	if asked.Idempotent != nil {
		isIdempotent = *asked.Idempotent
	}
	if !isIdempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if asked.MaxBytes != 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(asked.MaxBytes))
	}
	return newClient(options...)
}

func produce(asked *call) (interface{}, error) {
	client, err := newProducer(asked, false)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	records := make([]*kgo.Record, len(asked.Records))
	for i := range asked.Records {
		records[i] = toSend(&asked.Records[i])
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, err
	}
	offsets := make([]int64, len(records))
	for i := range records {
		offsets[i] = records[i].Offset
	}
	return offsets, nil
}

func toSend(sent *record) *kgo.Record {
	made := &kgo.Record{Topic: sent.Topic, Partition: sent.Partition, Key: sent.Key, Value: sent.Value}
	if sent.TimeMs != nil {
		made.Timestamp = time.UnixMilli(*sent.TimeMs)
	}
	for _, pair := range sent.Headers {
		header := kgo.RecordHeader{Key: pair[0].(string)}
		if text, isText := pair[1].(string); isText {
			quoted, _ := json.Marshal(text)
			if err := json.Unmarshal(quoted, &header.Value); err != nil {
				panic(err)
			}
		}
		made.Headers = append(made.Headers, header)
	}
	return made
}

func received(found *kgo.Record) record {
	timeMs := found.Timestamp.UnixMilli()
	headers := make([][2]interface{}, len(found.Headers))
	for i, header := range found.Headers {
		headers[i] = [2]interface{}{header.Key, header.Value}
	}
	return record{found.Topic, found.Partition, found.Offset, found.Key, found.Value, headers, &timeMs}
}

func read(asked *call) (interface{}, error) {
	options := []kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		asked.Topic: {asked.Partition: kgo.NewOffset().At(asked.Offset)},
	})}
	client, err := newClient(append(options, fetchSizes(asked)...)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	found := []record{}
	for len(found) < asked.Count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(one *kgo.Record) { found = append(found, received(one)) })
	}
	return found, nil
}

func fetchSizes(asked *call) []kgo.Opt {
	if asked.MaxBytes == 0 {
		return nil
	}
	return []kgo.Opt{kgo.FetchMaxBytes(asked.MaxBytes), kgo.FetchMaxPartitionBytes(asked.MaxBytes)}
}

// ------------------------------------------------------------------------------------------------------------- groups

// One goroutine polls; what else it is to do comes through a channel.
type member struct {
	name       string
	client     *kgo.Client
	commitEach bool
	errands    chan func()
	end        chan struct{}
	ended      chan struct{}
	lock       sync.Mutex
	assigned   map[string]map[int32]bool
}

func join(asked *call) error {
	m := &member{
		name: asked.Member, commitEach: asked.CommitEach, errands: make(chan func()),
		end: make(chan struct{}), ended: make(chan struct{}), assigned: map[string]map[int32]bool{},
	}
	start := kgo.NewOffset().AtStart()
	if asked.Reset == "latest" {
		start = kgo.NewOffset().AtEnd()
	}
	sessionMs := asked.SessionMs
	if sessionMs == 0 {
		sessionMs = 45_000
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(asked.Group), kgo.ConsumeTopics(asked.Topics...), kgo.ConsumeResetOffset(start),
		kgo.SessionTimeout(time.Duration(sessionMs) * time.Millisecond), kgo.RebalanceTimeout(10 * time.Second),
		kgo.HeartbeatInterval(200 * time.Millisecond), kgo.AutoCommitInterval(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { m.note(added, true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { m.note(gone, false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { m.note(gone, false) }),
		kgo.BlockRebalanceOnPoll(),
	}
	if !asked.AutoCommit {
		options = append(options, kgo.DisableAutoCommit())
	}
	balancers := map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
		"sticky": kgo.StickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
	}
	if asked.Assignor != "" {
		options = append(options, kgo.Balancers(balancers[asked.Assignor]))
	}
	if asked.InstanceID != "" {
		options = append(options, kgo.InstanceID(asked.InstanceID))
	}
	client, err := newClient(append(options, fetchSizes(asked)...)...)
	if err != nil {
		return err
	}
	m.client = client
	members[asked.Member] = m
	go m.poll()
	return nil
}

func (m *member) note(partitions map[string][]int32, isMine bool) {
	m.lock.Lock()
	defer m.lock.Unlock()
	changed := false
	for topic, numbers := range partitions {
		for _, number := range numbers {
			if m.assigned[topic] == nil {
				m.assigned[topic] = map[int32]bool{}
			}
			changed = changed || m.assigned[topic][number] != isMine
			if isMine {
				m.assigned[topic][number] = true
			} else {
				delete(m.assigned[topic], number)
			}
		}
	}
	if !changed {
		return
	}
	all := [][2]interface{}{}
	for topic, numbers := range m.assigned {
		for number := range numbers {
			all = append(all, [2]interface{}{topic, number})
		}
	}
	sort.Slice(all, func(i, j int) bool { return fmt.Sprint(all[i]) < fmt.Sprint(all[j]) })
	say(answer{"event": "assigned", "member": m.name, "partitions": all})
}

func (m *member) poll() {
	defer close(m.ended)
	for {
		select {
		case <-m.end:
			m.client.CloseAllowingRebalance()
			return
		case errand := <-m.errands:
			errand()
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		fetches := m.client.PollFetches(ctx)
		cancel()
		found := []record{}
		fetches.EachRecord(func(one *kgo.Record) { found = append(found, received(one)) })
		if len(found) > 0 {
			say(answer{"event": "records", "member": m.name, "records": found})
			if m.commitEach {
				if err := m.commit(); err != nil { // a rebalance, or a broker that is away: the next one covers it
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}
		m.client.AllowRebalance()
	}
}

func (m *member) commit() error {
	offsets := [][3]interface{}{}
	for topic, numbers := range m.client.UncommittedOffsets() {
		for number, next := range numbers {
			offsets = append(offsets, [3]interface{}{topic, number, next.Offset})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := m.client.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	if len(offsets) > 0 {
		say(answer{"event": "committed", "member": m.name, "offsets": offsets})
	}
	return nil
}

func (m *member) seek(asked *call) error {
	m.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{
		asked.Topic: {asked.Partition: {Epoch: -1, Offset: asked.Offset}},
	})
	return nil
}

func (m *member) do(errand func(*member) error) error {
	done := make(chan error)
	m.errands <- func() { done <- errand(m) }
	return <-done
}

func (m *member) leave() {
	close(m.end)
	<-m.ended
}

// ------------------------------------------------------------------------------------------------------------ streams

type stream struct {
	client    *kgo.Client
	end, done chan struct{}
	sent      int
}

func startStream(asked *call) error {
	client, err := newProducer(asked, true)
	if err != nil {
		return err
	}
	s := &stream{client: client, end: make(chan struct{}), done: make(chan struct{})}
	streams[asked.Stream] = s
	go s.run(asked)
	return nil
}

func (s *stream) run(asked *call) {
	defer close(s.done)
	room := make(chan struct{}, 100) // so many records under way
	for {
		select {
		case <-s.end:
			s.client.Flush(context.Background())
			s.client.Close()
			return
		case room <- struct{}{}:
			number := s.sent
			s.sent++
			made := &kgo.Record{
				Topic: asked.Topic, Partition: int32(number) % asked.Partitions,
				Value: []byte(asked.Stream + "." + strconv.Itoa(number)),
			}
			s.client.Produce(context.Background(), made, func(stored *kgo.Record, err error) {
				if err != nil {
					say(answer{"event": "failed", "stream": asked.Stream, "error": fmt.Sprint(number, ": ", err)})
				} else {
					say(answer{
						"event": "acked", "stream": asked.Stream, "number": number,
						"partition": stored.Partition, "offset": stored.Offset,
					})
				}
				<-room
			})
			time.Sleep(time.Millisecond)
		}
	}
}

func (s *stream) stop() int {
	close(s.end)
	<-s.done
	return s.sent
}

// -------------------------------------------------------------------------------------------------------------- admin

func administer(ctx context.Context, admin *kadm.Client, asked *call) (interface{}, error) {
	switch asked.Op {
	case "create_topic":
		configs := map[string]*string{}
		for name, value := range asked.Configs {
			configs[name] = &value
		}
		made, err := admin.CreateTopics(ctx, asked.Partitions, 1, configs, asked.Name)
		if err != nil {
			return nil, err
		}
		return nil, explained(made[asked.Name].Err, made[asked.Name].ErrMessage)
	case "delete_topic":
		deleted, err := admin.DeleteTopics(ctx, asked.Name)
		if err != nil {
			return nil, err
		}
		return nil, deleted.Error()
	case "create_partitions":
		updated, err := admin.UpdatePartitions(ctx, asked.Count, asked.Topic)
		if err != nil {
			return nil, err
		}
		return nil, updated.Error()
	case "topics":
		listed, err := admin.ListTopics(ctx)
		counts := map[string]int{}
		for name, topic := range listed {
			counts[name] = len(topic.Partitions)
		}
		return counts, err
	case "configs":
		described, err := admin.DescribeTopicConfigs(ctx, asked.Topic)
		if err != nil {
			return nil, err
		}
		values := map[string]*string{}
		for _, config := range described[0].Configs {
			values[config.Key] = config.Value
		}
		return values, described[0].Err
	case "set_config":
		changed, err := admin.AlterTopicConfigs(
			ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: asked.Name, Value: &asked.Value}}, asked.Topic)
		if err != nil {
			return nil, err
		}
		return nil, changed[0].Err
	case "groups":
		listed, err := admin.ListGroups(ctx)
		return listed.Groups(), err
	case "group_state":
		described, err := admin.DescribeGroups(ctx, asked.Group)
		if err != nil {
			return nil, err
		}
		group := described[asked.Group]
		return []interface{}{strings.ToLower(group.State), len(group.Members)}, group.Err
	case "delete_group":
		_, err := admin.DeleteGroup(ctx, asked.Group)
		return nil, err
	case "committed":
		found, err := admin.FetchOffsets(ctx, asked.Group)
		offsets := make([]int64, asked.Partitions)
		for number := range offsets {
			offsets[number] = -1
			if offset, is := found.Lookup(asked.Topic, int32(number)); is {
				offsets[number] = offset.At
			}
		}
		return offsets, err
	case "offset_at":
		listed, err := admin.ListOffsetsAfterMilli(ctx, asked.TimeMs, asked.Topic)
		if err != nil {
			return nil, err
		}
		found, _ := listed.Lookup(asked.Topic, asked.Partition)
		if found.Timestamp == -1 { // kadm gives the end where there is no record of that time or later
			return -1, found.Err
		}
		return found.Offset, found.Err
	case "ends":
		starts, err := admin.ListStartOffsets(ctx, asked.Topic)
		if err != nil {
			return nil, err
		}
		ends, err := admin.ListEndOffsets(ctx, asked.Topic)
		if err != nil {
			return nil, err
		}
		start, _ := starts.Lookup(asked.Topic, asked.Partition)
		end, _ := ends.Lookup(asked.Topic, asked.Partition)
		return []int64{start.Offset, end.Offset}, errors.Join(start.Err, end.Err)
	}
	return nil, fmt.Errorf("no such operation: %s", asked.Op)
}

func explained(err error, message string) error {
	if err == nil || message == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, message)
}
