// The checks of README.md beside this folder, by kafkajs.
//
//   node interop.js PHASE BOOTSTRAP RUN BASE_MS WRITERS
//
// The consumer of kafkajs works in groups only. What it reads with inside one, a cluster, its
// brokers' `fetch` and the decoder, is used here directly.
'use strict'

const kafkajs = require('kafkajs')
const Cluster = require('kafkajs/src/cluster')
const createSocketFactory = require('kafkajs/src/network/socketFactory')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

const NAME = 'kafkajs'
const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const MODES = ['acks-0', 'acks-1', 'acks-all', 'idempotent']
const SET = 60
const FIRST_FLUSH = 20
const KEYED = 200
const KEYS = 17
const KEYED_PARTITIONS = 6
const BULK = 20000
const BULK_PARTITIONS = 3
const SMALL_BYTES = 20000
const WAIT_MS = 20000

const { CompressionCodecs, CompressionTypes } = kafkajs
const logLevel = kafkajs.logLevel.NOTHING

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})

class Wrong extends Error {}

const [phase, bootstrap, run, base, writers] = process.argv.slice(2)
const brokers = bootstrap.split(',')
const counts = { ok: 0, FAIL: 0, skip: 0 }
const kafka = new kafkajs.Kafka({ brokers, logLevel, retry: { retries: 4 } })
const admin = kafka.admin()
const silent = { namespace: () => silent, ...noLog() }
const reader = new Cluster({
  brokers,
  logger: silent,
  socketFactory: createSocketFactory(),
  connectionTimeout: 1000,
  metadataMaxAge: 300000,
  retry: { retries: 4 },
  allowAutoTopicCreation: false,
})

function noLog() {
  const none = () => {}
  return { error: none, warn: none, info: none, debug: none }
}

async function main() {
  await zstd.init()
  await admin.connect()
  await reader.connect()
  await { write, read, delete: () => check('delete', deleteTopics) }[phase]()
  await reader.disconnect()
  await admin.disconnect()
  const { ok, FAIL, skip } = counts
  console.log(`${NAME} ${phase}: ${ok} ok, ${FAIL} FAIL, ${skip} skip`)
  process.exit(FAIL ? 1 : 0)
}

/** Runs a check; a text that it returns says why the client cannot be asked. */
async function check(name, body) {
  let verdict = 'ok'
  let why
  try {
    why = await body()
    if (why) verdict = 'skip'
  } catch (error) {
    verdict = 'FAIL'
    why = error instanceof Wrong ? error.message : `${error}`
    if (!(error instanceof Wrong)) console.error(name, error)
  }
  counts[verdict]++
  console.log(`${verdict} ${name}` + (why ? `: ${why.replace(/\s+/g, ' ').slice(0, 400)}` : ''))
}

// What is written.

async function write() {
  await check('cluster', clusterIsDescribed)
  await check('create', create)
  await check('describe', describe)
  await check('config', config)
  await check('create-twice', createTwice)
  for (const codec of CODECS) {
    for (const mode of MODES) {
      await check(`${codec}-${mode}`, () => writeSet(codec, mode))
    }
  }
  await check('keyed', keyed)
  await check('bulk', bulk)
  await check('nulls', async () => 'fails on a header of value null')
  await check('oversize', oversize)
  await check('unknown-topic', unknownTopic)
}

/** Kind → partitions. */
function kinds() {
  const sets = Object.fromEntries(CODECS.map(codec => [codec, MODES.length]))
  return { ...sets, keyed: KEYED_PARTITIONS, bulk: BULK_PARTITIONS, small: 1, nulls: 1 }
}

const topicOf = (kind, writer = NAME) => `${run}-${writer}-${kind}`

async function nodes() {
  const { brokers, controller } = await admin.describeCluster()
  return { ids: brokers.map(({ nodeId }) => nodeId), controller }
}

async function clusterIsDescribed() {
  const { ids, controller } = await nodes()
  if (!ids.includes(controller)) {
    throw new Wrong(`controller ${controller} is none of the nodes ${ids}`)
  }
}

async function create() {
  const replicationFactor = Math.min(3, (await nodes()).ids.length)
  const topics = Object.entries(kinds()).map(([kind, numPartitions]) => ({
    topic: topicOf(kind),
    numPartitions,
    replicationFactor,
    configEntries:
      kind === 'small' ? [{ name: 'max.message.bytes', value: `${SMALL_BYTES}` }] : [],
  }))
  same(await admin.createTopics({ topics, waitForLeaders: true }), true, 'created')
}

async function describe() {
  const { ids } = await nodes()
  const asked = Object.keys(kinds()).map(kind => topicOf(kind))
  const { topics } = await admin.fetchTopicMetadata({ topics: asked })
  const found = Object.fromEntries(topics.map(({ name, partitions }) => [name, partitions]))
  for (const [kind, count] of Object.entries(kinds())) {
    const topic = topicOf(kind)
    same(found[topic].length, count, `${topic}: partitions`)
    await patiently(() => admin.fetchTopicOffsets(topic))
    for (const { partitionId, leader, replicas, isr } of found[topic]) {
      const what = `${topic}-${partitionId}`
      same(new Set(replicas).size, Math.min(3, ids.length), `${what}: replicas`)
      same([...isr].sort(), [...replicas].sort(), `${what}: in sync`)
      if (!replicas.includes(leader) || !replicas.every(id => ids.includes(id))) {
        throw new Wrong(`${what}: leader ${leader}, replicas ${replicas}, nodes ${ids}`)
      }
    }
  }
}

async function config() {
  same(await configOf('small', 'max.message.bytes'), `${SMALL_BYTES}`, 'max.message.bytes')
  same(await configOf('none', 'max.message.bytes'), '1048588', 'max.message.bytes by default')
  same(await configOf('none', 'compression.type'), 'producer', 'compression.type by default')
}

async function configOf(kind, key) {
  const type = kafkajs.ConfigResourceTypes.TOPIC
  const asked = [{ type, name: topicOf(kind) }]
  const { resources } = await admin.describeConfigs({ resources: asked, includeSynonyms: false })
  return resources[0].configEntries.find(({ configName }) => configName === key)?.configValue
}

async function createTwice() {
  const again = [{ topic: topicOf('none'), numPartitions: 1, replicationFactor: 1 }]
  // `createTopics` answers false for this error, whoever says it; the request shows the code.
  same(await admin.createTopics({ topics: again }), false, 'created')
  await reader.addTargetTopic(topicOf('none'))
  const broker = await reader.findControllerBroker()
  const create = () => broker.createTopics({ topics: again, timeout: WAIT_MS })
  await expect('TOPIC_ALREADY_EXISTS', create)
}

async function writeSet(codec, mode) {
  const topic = topicOf(codec)
  const partition = MODES.indexOf(mode)
  const messages = set().map(record => ({ ...record, partition }))
  await producing(codec, mode, async produce => {
    const first = await produce(topic, messages.slice(0, FIRST_FLUSH))
    const second = await produce(topic, messages.slice(FIRST_FLUSH))
    if (mode !== 'acks-0') {
      same([first, second], [['0'], [`${FIRST_FLUSH}`]], 'base offsets acknowledged')
    }
  })
  await readSet(topic, partition)
}

async function keyed() {
  const topic = topicOf('keyed')
  const messages = []
  const expected = {}
  for (let i = 0; i < KEYED; i++) {
    const key = `customer-${i % KEYS}`
    messages.push(record(base, Buffer.from(key), Buffer.from(`${i}`), []))
    expected[key] = [...(expected[key] ?? []), i]
  }
  await producing('none', 'idempotent', produce => produce(topic, messages))
  const found = {}
  const partitions = {}
  for (let partition = 0; partition < KEYED_PARTITIONS; partition++) {
    for (const { key, value } of await fetch(topic, partition)) {
      found[key] = [...(found[key] ?? []), Number(value.toString())]
      partitions[key] = (partitions[key] ?? new Set()).add(partition)
    }
  }
  for (const key of Object.keys(expected)) {
    same(found[key], expected[key], `values of ${key}`)
    same(partitions[key].size, 1, `partitions of ${key}`)
  }
  same(Object.keys(found).length, KEYS, 'keys')
  if (new Set(Object.values(partitions).flatMap(some => [...some])).size < 2) {
    throw new Wrong('every key is in one partition')
  }
}

async function bulk() {
  const topic = topicOf('bulk')
  for (let partition = 0; partition < BULK_PARTITIONS; partition++) {
    const messages = []
    for (let i = partition; i < BULK; i += BULK_PARTITIONS) {
      const value = Buffer.from(`${i}`.padStart(8, '0') + 'x'.repeat(92))
      messages.push({ ...record(base, null, value, []), partition })
    }
    await producing('lz4', 'idempotent', produce => produce(topic, messages))
    sameRecords(await fetch(topic, partition, messages.length), messages, `${topic}-${partition}`)
  }
}

async function oversize() {
  const topic = topicOf('small')
  const large = record(base, null, Buffer.alloc(2 * SMALL_BYTES), [])
  const small = record(base, null, Buffer.alloc(100), [])
  await producing('none', 'acks-all', async produce => {
    await expect('MESSAGE_TOO_LARGE', () => produce(topic, [large]))
    same(await produce(topic, [small]), ['0'], 'offset of the next record')
  })
  sameRecords(await fetch(topic, 0, 1), [small], 'read')
}

async function unknownTopic() {
  const topic = topicOf('nowhere')
  const lost = record(base, null, Buffer.from('lost'), [])
  await producing('none', 'acks-all', produce =>
    expect('UNKNOWN_TOPIC_OR_PARTITION', () => produce(topic, [lost]))
  )
  if ((await admin.listTopics()).includes(topic)) throw new Wrong(`${topic} was created`)
}

// What the others have written, and the end.

async function read() {
  for (const writer of writers.split(',')) {
    await check(`read-${writer}`, async () => {
      for (const codec of CODECS) {
        for (const partition of MODES.keys()) await readSet(topicOf(codec, writer), partition)
      }
    })
  }
}

async function readSet(topic, partition) {
  sameRecords(await fetch(topic, partition, SET), set(), `${topic}-${partition}`)
}

async function deleteTopics() {
  const topics = Object.keys(kinds()).map(kind => topicOf(kind))
  await admin.deleteTopics({ topics })
  const end = Date.now() + WAIT_MS
  while ((await admin.listTopics()).some(topic => topics.includes(topic))) {
    if (Date.now() > end) throw new Wrong(`topics gone: not within ${WAIT_MS} ms`)
    await pause()
  }
}

// The clients.

/** Calls `body` with a function that sends messages and tells the base offsets of the answer. */
async function producing(codec, mode, body) {
  const types = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }
  const compression = CompressionTypes[types[codec]]
  const acks = { 'acks-0': 0, 'acks-1': 1 }[mode] ?? -1
  const producer = kafka.producer({
    allowAutoTopicCreation: false,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    idempotent: mode === 'idempotent',
  })
  await producer.connect()
  try {
    await body(async (topic, messages) => {
      const answers = await producer.send({ topic, messages, acks, compression })
      return (answers ?? []).map(({ baseOffset }) => baseOffset)
    })
  } finally {
    await producer.disconnect()
  }
}

/** What a partition holds: `count` records, or as many as its end offset says. */
async function fetch(topic, partition, count) {
  await reader.addTargetTopic(topic)
  const [, end] = await bounds(topic, partition)
  const wanted = count ?? end
  const limit = Date.now() + WAIT_MS
  const found = []
  while (found.length < wanted && Date.now() < limit) {
    const offset = `${found.length}`
    const asked = [{ topic, partitions: [{ partition, fetchOffset: offset, maxBytes: 1048576 }] }]
    const answer = await (await leader(topic, partition)).fetch({ maxWaitTime: 10, topics: asked })
    // A batch comes whole, also when it begins before what was asked for.
    const messages = answer.responses.flatMap(({ partitions }) => partitions[0].messages)
    found.push(...messages.filter(one => Number(one.offset) >= found.length))
  }
  same(await bounds(topic, partition), [0, found.length], `${topic}-${partition}: bounds`)
  return found
}

async function leader(topic, partition) {
  const [nodeId] = Object.keys(reader.findLeaderForPartitions(topic, [partition]))
  return reader.findBroker({ nodeId })
}

/** The first offset of a partition and its end offset. */
async function bounds(topic, partition) {
  const offsets = await admin.fetchTopicOffsets(topic)
  const found = offsets.find(one => one.partition === partition)
  return [Number(found.low), Number(found.high)]
}

/** A leader of a new topic may not know yet that it leads, and this client gives up at once. */
async function patiently(ask) {
  const end = Date.now() + WAIT_MS
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!error.retriable || Date.now() > end) throw error
      await pause()
    }
  }
}

const pause = () => new Promise(resolve => setTimeout(resolve, 100))

// Records and comparisons. The headers of kafkajs are an object: values of one name are a list.

function record(timestamp, key, value, headers) {
  return { timestamp: `${timestamp}`, key, value, headers: Object.fromEntries(headers) }
}

function set() {
  return Array.from({ length: SET }, (_, i) => {
    const key = [null, Buffer.alloc(0), Buffer.from(`key-${i}`), Buffer.from(`key-${i}`)][i % 4]
    const text = Buffer.from(`value-${i}-${'x'.repeat(i * 7)}`)
    const value = [
      key === null ? Buffer.alloc(0) : null,
      Buffer.alloc(0),
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      text,
      text,
    ][i % 5]
    const headers = [
      [],
      [['trace', Buffer.from(`t-${i}`)]],
      [
        ['trace', [Buffer.from('a'), Buffer.from('b')]],
        ['empty', Buffer.alloc(0)],
        ['bytes', Buffer.from([0, 255])],
      ],
    ][i % 3]
    return record(Number(base) + i * 1000, key, value, headers)
  })
}

const text = data => (data === null ? 'null' : `0x${data.toString('hex')}`)

function line(offset, { timestamp, key, value, headers }) {
  const texts = Object.entries(headers).map(
    ([name, values]) => `${name}=${[].concat(values).map(text)}`
  )
  return `${offset} ${timestamp} ${text(key)} ${text(value)} [${texts}]`
}

function sameRecords(found, expected, what) {
  for (let i = 0; i < Math.min(found.length, expected.length); i++) {
    same(line(found[i].offset, found[i]), line(i, expected[i]), what)
  }
  same(found.length, expected.length, `${what}: records`)
}

function same(found, expected, what) {
  const [one, other] = [found, expected].map(value => JSON.stringify(value))
  if (one !== other) throw new Wrong(`${what}: found ${one}, expected ${other}`)
}

/** Runs what has to fail with a code of the broker, directly or as the cause of giving up. */
async function expect(code, body) {
  let found = 'no error'
  try {
    await body()
  } catch (error) {
    const types = [error, error.cause, error.errors?.[0]].map(one => one?.type)
    if (types.includes(code)) return
    found = `${error}`
  }
  throw new Wrong(`the error: found ${found}, expected ${code}`)
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
