// An agent of kafkajs: lines of JSON in, lines of JSON out, as tests/support/kafka_clients/agent.py says.
//
//     NODE_PATH=$(tools/kafkajs) node agent.js ADDRESS

'use strict'

const readline = require('node:readline')
const { randomUUID } = require('node:crypto')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')
const Snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@mongodb-js/zstd')

CompressionCodecs[CompressionTypes.Snappy] = Snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: (encoder) => zstd.compress(encoder.buffer),
  decompress: (buffer) => zstd.decompress(buffer),
})
const CODECS = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 }

const kafka = new Kafka({
  clientId: 'kafkajs',
  brokers: [process.argv[2]],
  logLevel: logLevel.ERROR,
  // Again at once, and for a minute: what a broker that restarts makes it wait for.
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 120 },
})
const members = {}
const streams = {}

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
const toText = (value) => (value === null || value === undefined ? null : Buffer.from(value).toString('base64'))
const toBytes = (text) => (text === null ? null : Buffer.from(text, 'base64'))

const toHeaders = (pairs) => {
  const headers = {}
  for (const [name, text] of pairs) {
    const value = toBytes(text)
    headers[name] = name in headers ? [].concat(headers[name], [value]) : value
  }
  return headers
}

const toPairs = (headers) =>
  Object.entries(headers || {}).flatMap(([name, value]) =>
    Array.isArray(value) ? value.map((one) => [name, toText(one)]) : [[name, toText(value)]],
  )

const received = (topic, partition, message) => ({
  topic,
  partition,
  offset: Number(message.offset),
  key: toText(message.key),
  value: toText(message.value),
  headers: toPairs(message.headers),
  timestamp_ms: Number(message.timestamp),
})

const withAdmin = async (ask) => {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await ask(admin)
  } finally {
    await admin.disconnect()
  }
}

const connectedProducer = async (settings) => {
  const idempotent = settings.idempotent ?? false
  const producer = kafka.producer({ idempotent, allowAutoTopicCreation: false, maxInFlightRequests: idempotent ? 1 : 5 })
  await producer.connect()
  return producer
}

const toAcks = (acks) => (acks === undefined || acks === 'all' ? -1 : Number(acks))

const consumerOf = (group, settings) =>
  kafka.consumer({
    groupId: group,
    sessionTimeout: settings.session_timeout_ms ?? 45000,
    rebalanceTimeout: 10000,
    heartbeatInterval: settings.heartbeat_interval_ms ?? 200,
    maxWaitTimeInMs: 200,
    metadataMaxAge: 1000,
    allowAutoTopicCreation: false,
    ...(settings.max_bytes ? { maxBytes: settings.max_bytes, maxBytesPerPartition: settings.max_bytes } : {}),
  })

const operations = {
  async produce({ records, codec, acks, ...settings }) {
    const producer = await connectedProducer(settings)
    const topicMessages = {}
    const places = records.map((record) => {
      const messages = (topicMessages[record.topic] ??= [])
      messages.push({
        partition: record.partition,
        key: toBytes(record.key),
        value: toBytes(record.value),
        headers: toHeaders(record.headers),
        ...(record.timestamp_ms === null ? {} : { timestamp: String(record.timestamp_ms) }),
      })
      return `${record.topic} ${record.partition}`
    })
    const answers = await producer.sendBatch({
      topicMessages: Object.entries(topicMessages).map(([topic, messages]) => ({ topic, messages })),
      acks: toAcks(acks),
      compression: CODECS[codec ?? 'none'],
    })
    await producer.disconnect()
    const next = {}
    for (const answer of answers ?? []) next[`${answer.topicName} ${answer.partition}`] = Number(answer.baseOffset)
    return places.map((place) => (place in next ? next[place]++ : -1))
  },

  // There is no reading without a group: a group of its own, which commits nothing.
  async read({ topic, partition, offset, count, ...settings }) {
    const consumer = consumerOf(`nobody-${randomUUID()}`, settings)
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    const found = []
    await new Promise((resolve) => {
      consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch, isStale }) => {
          if (isStale() || batch.partition !== partition) return
          for (const message of batch.messages) {
            if (Number(message.offset) >= offset) found.push(received(topic, partition, message))
          }
          if (found.length >= count) resolve()
        },
      })
      consumer.seek({ topic, partition, offset: String(offset) })
    })
    await consumer.disconnect()
    return found
  },

  async join({ member, group, topics, ...settings }) {
    const consumer = consumerOf(group, settings)
    const positions = {}
    const commit = async () => {
      const places = Object.entries(positions).filter(([name]) => consumer.owned.has(name))
      const offsets = places.map(([, { topic, partition, next }]) => ({ topic, partition, offset: String(next) }))
      if (offsets.length === 0) return
      await consumer.commitOffsets(offsets)
      const committed = offsets.map(({ topic, partition, offset }) => [topic, partition, Number(offset)])
      say({ event: 'committed', member, offsets: committed })
    }
    consumer.owned = new Set()
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      const partitions = Object.entries(payload.memberAssignment).flatMap(([topic, numbers]) =>
        numbers.map((number) => [topic, number]),
      )
      consumer.owned = new Set(partitions.map(([topic, number]) => `${topic} ${number}`))
      for (const name of Object.keys(positions)) delete positions[name]
      say({ event: 'assigned', member, partitions })
    })
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) say({ event: 'broken', member, error: String(payload.error) })
    })
    members[member] = { consumer, commit }
    await consumer.connect()
    await consumer.subscribe({ topics, fromBeginning: (settings.reset ?? 'earliest') === 'earliest' })
    await consumer.run({
      autoCommit: settings.auto_commit ?? false,
      autoCommitInterval: 100,
      partitionsConsumedConcurrently: 5,
      eachBatch: async ({ batch, resolveOffset, isStale, commitOffsetsIfNecessary }) => {
        const { topic, partition, messages } = batch
        if (isStale() || messages.length === 0) return
        const last = messages[messages.length - 1].offset
        positions[`${topic} ${partition}`] = { topic, partition, next: Number(last) + 1 }
        resolveOffset(last)
        say({ event: 'records', member, records: messages.map((message) => received(topic, partition, message)) })
        if (settings.auto_commit) await commitOffsetsIfNecessary()
        // In a rebalance, or while the broker is away, the next commit covers it.
        if (settings.commit_each) await commit().catch((error) => console.error(String(error)))
      },
    })
  },

  async commit({ member }) {
    await members[member].commit()
  },

  async pause({ member, topic, partition }) {
    members[member].consumer.pause([{ topic, partitions: [partition] }])
  },

  async resume({ member, topic, partition }) {
    members[member].consumer.resume([{ topic, partitions: [partition] }])
  },

  async seek({ member, topic, partition, offset }) {
    members[member].consumer.seek({ topic, partition, offset: String(offset) })
  },

  async leave({ member }) {
    await members[member].consumer.disconnect()
    delete members[member]
  },

  async stream({ stream, topic, partitions, ...settings }) {
    const producer = await connectedProducer({ idempotent: true, ...settings })
    const state = { isStopping: false, sent: 0 }
    streams[stream] = state
    state.done = (async () => {
      while (!state.isStopping) {
        const numbers = Array.from({ length: 5 }, () => state.sent++)
        const messages = numbers.map((number) => ({ partition: number % partitions, value: `${stream}.${number}` }))
        try {
          const answers = await producer.send({ topic, messages, acks: -1, compression: CODECS[settings.codec ?? 'none'] })
          const next = Object.fromEntries(answers.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
          for (const number of numbers) {
            const partition = number % partitions
            say({ event: 'acked', stream, number, partition, offset: next[partition]++ })
          }
        } catch (error) {
          say({ event: 'failed', stream, error: `${numbers}: ${error}` })
        }
      }
      await producer.disconnect()
    })()
  },

  async stop({ stream }) {
    const state = streams[stream]
    state.isStopping = true
    await state.done
    delete streams[stream]
    return state.sent
  },

  create_topic: ({ name, partitions, configs }) =>
    withAdmin(async (admin) => {
      const configEntries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
      const topics = [{ topic: name, numPartitions: partitions, replicationFactor: 1, configEntries }]
      if (!(await admin.createTopics({ topics, waitForLeaders: true }))) throw new Error(`${name} exists`)
      return null
    }),

  delete_topic: ({ name }) => withAdmin((admin) => admin.deleteTopics({ topics: [name] })).then(() => null),

  create_partitions: ({ topic, count }) =>
    withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic, count }] })).then(() => null),

  topics: () =>
    withAdmin(async (admin) => {
      const { topics } = await admin.fetchTopicMetadata()
      return Object.fromEntries(topics.map(({ name, partitions }) => [name, partitions.length]))
    }),

  configs: ({ topic }) =>
    withAdmin(async (admin) => {
      const wanted = { includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] }
      const { resources } = await admin.describeConfigs(wanted)
      return Object.fromEntries(resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue]))
    }),

  set_config: ({ topic, name, value }) =>
    withAdmin(async (admin) => {
      const resource = { type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name, value }] }
      await admin.alterConfigs({ resources: [resource] })
      return null
    }),

  groups: () => withAdmin(async (admin) => (await admin.listGroups()).groups.map(({ groupId }) => groupId)),

  group_state: ({ group }) =>
    withAdmin(async (admin) => {
      const { groups } = await admin.describeGroups([group])
      return [groups[0].state.toLowerCase(), groups[0].members.length]
    }),

  delete_group: ({ group }) => withAdmin((admin) => admin.deleteGroups([group])).then(() => null),

  committed: ({ group, topic, partitions }) =>
    withAdmin(async (admin) => {
      const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
      const offsets = Object.fromEntries(found.partitions.map(({ partition, offset }) => [partition, Number(offset)]))
      return Array.from({ length: partitions }, (_, partition) => offsets[partition] ?? -1)
    }),

  // kafkajs gives the end where there is no record of that time or later.
  offset_at: ({ topic, partition, timestamp_ms }) =>
    withAdmin(async (admin) => {
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, timestamp_ms)
      const [end] = (await admin.fetchTopicOffsets(topic)).filter((place) => place.partition === partition)
      const offset = Number(found.find((place) => place.partition === partition).offset)
      return offset === Number(end.high) ? -1 : offset
    }),

  ends: ({ topic, partition }) =>
    withAdmin(async (admin) => {
      const [end] = (await admin.fetchTopicOffsets(topic)).filter((place) => place.partition === partition)
      return [Number(end.low), Number(end.high)]
    }),
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const { id, op, ...settings } = JSON.parse(line)
  try {
    say({ id, ok: (await operations[op](settings)) ?? null })
  } catch (error) {
    console.error(error)
    say({ id, error: [error, ...(error.errors ?? [])].join('; ') })
  }
})
lines.on('close', () => process.exit(0))
