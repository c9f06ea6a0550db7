import static java.util.concurrent.TimeUnit.SECONDS;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * An agent of Kafka's own client: lines of JSON in, lines of JSON out, as tests/support/kafka_clients/agent.py says.
 *
 * <p>java -cp CLASSES Agent ADDRESS
 */
public final class Agent {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration WAIT = Duration.ofSeconds(30);
    private static final Map<String, String> ASSIGNORS = Map.of(
            "range", "org.apache.kafka.clients.consumer.RangeAssignor",
            "roundrobin", "org.apache.kafka.clients.consumer.RoundRobinAssignor",
            "sticky", "org.apache.kafka.clients.consumer.StickyAssignor",
            "cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");

    private static PrintStream replies;

    private final String address;
    private final Admin admin;
    private final Map<String, Member> members = new ConcurrentHashMap<>();
    private final Map<String, Stream> streams = new ConcurrentHashMap<>();

    private Agent(String address) {
        this.address = address;
        this.admin = Admin.create(shared());
    }

    public static void main(String[] arguments) throws Exception {
        replies = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        System.setOut(System.err); // what a library prints is no answer
        Agent agent = new Agent(arguments[0]);
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            JsonNode call = JSON.readTree(line);
            Map<String, Object> answer = new HashMap<>();
            answer.put("id", call.get("id").asInt());
            try {
                answer.put("ok", agent.run(call));
            } catch (Exception error) {
                error.printStackTrace();
                answer.put("error", String.valueOf(error));
            }
            say(answer);
        }
        Runtime.getRuntime().halt(0);
    }

    private Object run(JsonNode call) throws Exception {
        switch (call.get("op").asText()) {
            case "produce": return produce(call);
            case "read": return read(call);
            case "join": return join(call);
            case "commit": return member(call).ask(Member::commit);
            case "pause": return member(call).ask(member -> member.consumer.pause(List.of(place(call))));
            case "resume": return member(call).ask(member -> member.consumer.resume(List.of(place(call))));
            case "seek": return member(call).ask(member -> member.consumer.seek(place(call), call.get("offset").asLong()));
            case "leave": return members.remove(call.get("member").asText()).leave();
            case "stream": return stream(call);
            case "stop": return streams.remove(call.get("stream").asText()).stop();
            case "create_topic": return createTopic(call);
            case "delete_topic": return get(admin.deleteTopics(List.of(call.get("name").asText())).all());
            case "create_partitions": return createPartitions(call);
            case "topics": return topics();
            case "configs": return configs(call);
            case "set_config": return setConfig(call);
            case "groups": return groups();
            case "group_state": return groupState(call);
            case "delete_group": return get(admin.deleteConsumerGroups(List.of(call.get("group").asText())).all());
            case "committed": return committed(call);
            case "offset_at": return offsetAt(call);
            case "ends": return ends(call);
            default: throw new IllegalArgumentException(call.get("op").asText());
        }
    }

    // ------------------------------------------------------------------------------------------------- records

    private Object produce(JsonNode call) throws Exception {
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(call, false)) {
            for (JsonNode record : call.get("records")) {
                RecordHeaders headers = new RecordHeaders();
                for (JsonNode pair : record.get("headers")) {
                    headers.add(pair.get(0).asText(), bytes(pair.get(1)));
                }
                JsonNode time = record.get("timestamp_ms");
                futures.add(producer.send(new ProducerRecord<>(
                        record.get("topic").asText(),
                        record.get("partition").asInt(),
                        time.isNull() ? null : time.asLong(),
                        bytes(record.get("key")),
                        bytes(record.get("value")),
                        headers)));
            }
            producer.flush();
        }
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> future : futures) {
            RecordMetadata metadata = future.get(30, SECONDS);
            offsets.add(metadata.hasOffset() ? metadata.offset() : -1);
        }
        return offsets;
    }

    private Object read(JsonNode call) {
        List<Object> found = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, call)) {
            consumer.assign(List.of(place(call)));
            consumer.seek(place(call), call.get("offset").asLong());
            while (found.size() < call.get("count").asInt()) {
                consumer.poll(Duration.ofSeconds(1)).forEach(record -> found.add(received(record)));
            }
        }
        return found;
    }

    private Object join(JsonNode call) {
        String name = call.get("member").asText();
        Member member = new Member(name, consumer(call.get("group").asText(), call), flag(call, "commit_each", false));
        List<String> topics = new ArrayList<>();
        call.get("topics").forEach(topic -> topics.add(topic.asText()));
        members.put(name, member);
        member.start(topics);
        return null;
    }

    private Member member(JsonNode call) {
        return members.get(call.get("member").asText());
    }

    private Object stream(JsonNode call) {
        String name = call.get("stream").asText();
        Stream stream = new Stream(name, producer(call, true), call.get("topic").asText(), call.get("partitions").asInt());
        streams.put(name, stream);
        stream.thread.start();
        return null;
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode call, boolean isIdempotent) {
        Properties properties = shared();
        properties.put("linger.ms", 5);
        properties.put("compression.type", text(call, "codec", "none"));
        properties.put("acks", text(call, "acks", "all"));
        properties.put("enable.idempotence", flag(call, "idempotent", isIdempotent));
        if (call.has("max_bytes")) {
            properties.put("max.request.size", call.get("max_bytes").asInt());
        }
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group, JsonNode call) {
        Properties properties = shared();
        if (group != null) {
            properties.put("group.id", group);
        }
        properties.put("auto.offset.reset", text(call, "reset", "earliest"));
        properties.put("enable.auto.commit", group != null && flag(call, "auto_commit", false));
        properties.put("auto.commit.interval.ms", 100);
        properties.put("metadata.max.age.ms", 1000);
        properties.put("session.timeout.ms", number(call, "session_timeout_ms", 45_000));
        properties.put("heartbeat.interval.ms", number(call, "heartbeat_interval_ms", 200));
        if (call.has("group_protocol")) {
            properties.put("group.protocol", call.get("group_protocol").asText());
            properties.keySet().removeAll(List.of("session.timeout.ms", "heartbeat.interval.ms"));
        }
        if (call.has("assignor")) {
            properties.put("partition.assignment.strategy", ASSIGNORS.get(call.get("assignor").asText()));
        }
        if (call.has("instance_id")) {
            properties.put("group.instance.id", call.get("instance_id").asText());
        }
        if (call.has("max_bytes")) {
            properties.put("max.partition.fetch.bytes", call.get("max_bytes").asInt());
            properties.put("fetch.max.bytes", call.get("max_bytes").asInt());
        }
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private Properties shared() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", address);
        properties.put("client.id", "java");
        properties.put("reconnect.backoff.ms", 20);
        properties.put("reconnect.backoff.max.ms", 200);
        properties.put("retry.backoff.ms", 20);
        properties.put("retry.backoff.max.ms", 200);
        properties.put("enable.metrics.push", false);
        return properties;
    }

    // --------------------------------------------------------------------------------------------------- admin

    private Object createTopic(JsonNode call) throws Exception {
        Map<String, String> configs = new HashMap<>();
        call.get("configs").properties().forEach(entry -> configs.put(entry.getKey(), entry.getValue().asText()));
        NewTopic topic = new NewTopic(call.get("name").asText(), call.get("partitions").asInt(), (short) 1);
        return get(admin.createTopics(List.of(topic.configs(configs))).all());
    }

    private Object createPartitions(JsonNode call) throws Exception {
        NewPartitions partitions = NewPartitions.increaseTo(call.get("count").asInt());
        return get(admin.createPartitions(Map.of(call.get("topic").asText(), partitions)).all());
    }

    private Object topics() throws Exception {
        Set<String> names = get(admin.listTopics().names());
        Map<String, Integer> counts = new HashMap<>();
        for (TopicDescription topic : get(admin.describeTopics(names).allTopicNames()).values()) {
            counts.put(topic.name(), topic.partitions().size());
        }
        return counts;
    }

    private static ConfigResource resource(JsonNode call) {
        return new ConfigResource(ConfigResource.Type.TOPIC, call.get("topic").asText());
    }

    private Object configs(JsonNode call) throws Exception {
        Map<String, String> values = new HashMap<>();
        get(admin.describeConfigs(List.of(resource(call))).all()).get(resource(call)).entries()
                .forEach(entry -> values.put(entry.name(), entry.value()));
        return values;
    }

    private Object setConfig(JsonNode call) throws Exception {
        ConfigEntry entry = new ConfigEntry(call.get("name").asText(), call.get("value").asText());
        List<AlterConfigOp> changes = List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET));
        return get(admin.incrementalAlterConfigs(Map.of(resource(call), changes)).all());
    }

    private Object groups() throws Exception {
        List<String> names = new ArrayList<>();
        get(admin.listGroups().all()).forEach(group -> names.add(group.groupId()));
        return names;
    }

    private Object groupState(JsonNode call) throws Exception {
        String group = call.get("group").asText();
        var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        return List.of(described.groupState().name().replace("_", "").toLowerCase(), described.members().size());
    }

    private Object committed(JsonNode call) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> found =
                get(admin.listConsumerGroupOffsets(call.get("group").asText()).partitionsToOffsetAndMetadata());
        List<Long> offsets = new ArrayList<>();
        for (int number = 0; number < call.get("partitions").asInt(); number++) {
            OffsetAndMetadata offset = found.get(new TopicPartition(call.get("topic").asText(), number));
            offsets.add(offset == null ? -1 : offset.offset());
        }
        return offsets;
    }

    private Object offsetAt(JsonNode call) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, call)) {
            var found = consumer.offsetsForTimes(Map.of(place(call), call.get("timestamp_ms").asLong())).get(place(call));
            return found == null ? -1 : found.offset();
        }
    }

    private Object ends(JsonNode call) {
        List<TopicPartition> places = List.of(place(call));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, call)) {
            return List.of(
                    consumer.beginningOffsets(places).get(place(call)), consumer.endOffsets(places).get(place(call)));
        }
    }

    private static <T> T get(Future<T> future) throws Exception {
        return future.get(WAIT.toSeconds(), SECONDS);
    }

    // ------------------------------------------------------------------------------------------------ the lines

    private static synchronized void say(Map<String, Object> message) {
        try {
            replies.println(JSON.writeValueAsString(message));
            replies.flush();
        } catch (Exception error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    private static TopicPartition place(JsonNode call) {
        return new TopicPartition(call.get("topic").asText(), call.get("partition").asInt());
    }

    private static String text(JsonNode call, String name, String otherwise) {
        return call.has(name) ? call.get(name).asText() : otherwise;
    }

    private static int number(JsonNode call, String name, int otherwise) {
        return call.has(name) ? call.get(name).asInt() : otherwise;
    }

    private static boolean flag(JsonNode call, String name, boolean otherwise) {
        return call.has(name) ? call.get(name).asBoolean() : otherwise;
    }

    private static byte[] bytes(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    private static Map<String, Object> received(ConsumerRecord<byte[], byte[]> record) {
        Map<String, Object> fields = new HashMap<>();
        List<List<String>> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            List<String> pair = new ArrayList<>();
            pair.add(header.key());
            pair.add(text(header.value()));
            headers.add(pair);
        }
        fields.put("topic", record.topic());
        fields.put("partition", record.partition());
        fields.put("offset", record.offset());
        fields.put("key", text(record.key()));
        fields.put("value", text(record.value()));
        fields.put("headers", headers);
        fields.put("timestamp_ms", record.timestamp());
        return fields;
    }

    /** A thread that polls; what it is to do beside that waits in a queue for it. */
    private static final class Member {
        interface Errand {
            void run(Member member);
        }

        final KafkaConsumer<byte[], byte[]> consumer;
        private final String name;
        private final boolean commitsEach;
        private final ConcurrentLinkedQueue<Runnable> errands = new ConcurrentLinkedQueue<>();
        private volatile boolean isLeaving;
        private Thread thread;

        Member(String name, KafkaConsumer<byte[], byte[]> consumer, boolean commitsEach) {
            this.name = name;
            this.consumer = consumer;
            this.commitsEach = commitsEach;
        }

        void start(List<String> topics) {
            thread = new Thread(() -> {
                try {
                    run(topics);
                } catch (RuntimeException error) {
                    say(Map.of("event", "broken", "member", name, "error", String.valueOf(error)));
                    throw error;
                }
            });
            thread.setDaemon(true);
            thread.start();
        }

        Object ask(Errand errand) throws Exception {
            CompletableFuture<Object> done = new CompletableFuture<>();
            errands.add(() -> {
                try {
                    errand.run(this);
                    done.complete(null);
                } catch (RuntimeException error) {
                    done.completeExceptionally(error);
                }
            });
            return done.get(60, SECONDS);
        }

        Object leave() throws InterruptedException {
            isLeaving = true;
            thread.join(60_000);
            return null;
        }

        void commit() {
            Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
            List<List<Object>> offsets = new ArrayList<>();
            for (TopicPartition place : consumer.assignment()) {
                long offset = consumer.position(place);
                positions.put(place, new OffsetAndMetadata(offset));
                offsets.add(List.of(place.topic(), place.partition(), offset));
            }
            consumer.commitSync(positions);
            say(Map.of("event", "committed", "member", name, "offsets", offsets));
        }

        private void run(List<String> topics) {
            consumer.subscribe(topics);
            List<List<Object>> assigned = new ArrayList<>();
            while (!isLeaving) {
                List<Object> found = new ArrayList<>();
                consumer.poll(Duration.ofMillis(50)).forEach(record -> found.add(received(record)));
                List<List<Object>> now = assignment();
                if (!now.equals(assigned)) {
                    assigned = now;
                    say(Map.of("event", "assigned", "member", name, "partitions", now));
                }
                if (!found.isEmpty()) {
                    say(Map.of("event", "records", "member", name, "records", found));
                    if (commitsEach) {
                        tryToCommit();
                    }
                }
                Runnable errand = errands.poll();
                if (errand != null) {
                    errand.run();
                }
            }
            consumer.close();
        }

        private List<List<Object>> assignment() {
            TreeSet<TopicPartition> sorted = new TreeSet<>((one, other) -> one.topic().equals(other.topic())
                    ? Integer.compare(one.partition(), other.partition())
                    : one.topic().compareTo(other.topic()));
            sorted.addAll(consumer.assignment());
            List<List<Object>> places = new ArrayList<>();
            sorted.forEach(place -> places.add(List.of(place.topic(), place.partition())));
            return places;
        }

        private void tryToCommit() {
            try {
                commit();
            } catch (RuntimeException error) { // a rebalance, or a broker that is away: the next commit covers it
                error.printStackTrace();
            }
        }
    }

    /** Sends without waiting, up to so many records under way. */
    private static final class Stream {
        private static final int UNDER_WAY_MAX = 100;

        final Thread thread = new Thread(this::run);
        private final String name;
        private final KafkaProducer<byte[], byte[]> producer;
        private final String topic;
        private final int partitionCount;
        private final Semaphore room = new Semaphore(UNDER_WAY_MAX);
        private volatile boolean isStopping;
        private volatile int sent;

        Stream(String name, KafkaProducer<byte[], byte[]> producer, String topic, int partitionCount) {
            this.name = name;
            this.producer = producer;
            this.topic = topic;
            this.partitionCount = partitionCount;
            thread.setDaemon(true);
        }

        Object stop() throws InterruptedException {
            isStopping = true;
            thread.join(120_000);
            return sent;
        }

        private void run() {
            try {
                while (!isStopping) {
                    Thread.sleep(1);
                    if (room.tryAcquire(10, java.util.concurrent.TimeUnit.MILLISECONDS)) {
                        send(sent++);
                    }
                }
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
            producer.close();
        }

        private void send(int number) {
            byte[] value = (name + "." + number).getBytes(StandardCharsets.UTF_8);
            producer.send(new ProducerRecord<>(topic, number % partitionCount, null, value), (metadata, error) -> {
                room.release();
                if (error == null) {
                    say(Map.of("event", "acked", "stream", name, "number", number,
                            "partition", metadata.partition(), "offset", metadata.offset()));
                } else {
                    say(Map.of("event", "failed", "stream", name, "error", number + ": " + error));
                }
            });
        }
    }
}
