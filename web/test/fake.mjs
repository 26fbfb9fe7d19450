// A server that serves the built page and a made-up run, for tests and for work on the page.
// node test/fake.mjs [--port N] [--workers N] [--large] [--finished] [--mean] [--healthy]
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const ASSETS = fileURLToPath(new URL('../../crates/dashboard/assets/', import.meta.url));
const TYPES = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8' };
const POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:";
const DIMENSION = 109_386;

/** Numbers that look random, and are the same every time. */
function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const names = ['conv1.weight', 'conv1.bias', 'conv2.weight', 'conv2.bias', 'dense1.weight', 'dense1.bias', 'dense2.weight', 'dense2.bias'];

export const LARGE = { workers: 200, rounds: 10_000, tensors: 160, entries: 200, liars: [3, 50, 199] };

function summed(margins) {
  const all = Array.from({ length: 11 }, (_, bin) => margins.tensors.reduce((sum, tensor) => sum + tensor.bins[bin], 0));
  return { ...margins, all };
}

function healthOf(list, phase, limit) {
  const apart = list.filter((worker) => worker.apart);
  const away = list.filter((worker) => worker.state === 'away' && phase === 'running').map((worker) => worker.name);
  const more = away.length > 0 ? `${away.length} are away: ${away.join(', ')}.` : '';
  if (limit === null) {
    const here = list.filter((worker) => worker.state !== 'away').length;
    return { level: 'wait', words: phase === 'gathering' ? `${here} of ${list.length} workers are there.` : 'It is too early to say whether a worker lies.', more };
  }
  if (apart.length === 0) return { level: 'good', words: `All ${list.length} workers vote like each other.`, more };
  return { level: 'bad', words: `${apart.length} of ${list.length} workers are set apart: ${apart.map((worker) => worker.name).join(', ')}.`, more };
}

/** The run after `round` rounds. */
export function snapshot(round, options = {}) {
  const { workers = 7, rounds = 1200, tensors = 8, entries = 14, liars = [1, 2, 3], phase = 'running', mean = false, hostile = false } = options;
  const random = numbers(round + 17);
  const seconds = (at) => at / 42.5;
  const bytesAt = (at) => Math.round(at * workers * (DIMENSION / 8 + 40) * 1.92);
  const plain = round * workers * DIMENSION * 4;
  const curve = (at) => 0.28 + 2 * Math.exp(-at / (rounds / 8));
  const right = (at) => 0.91 - 0.8 * Math.exp(-at / (rounds / 9));

  const stride = Math.max(1, Math.ceil(round / 1000));
  const series = { stride, round: [], seconds: [], bytes: [], loss: [], accuracy: [], eta: [] };
  const noise = numbers(5);
  for (let at = stride; at <= round; at += stride) {
    series.round.push(at);
    series.seconds.push(seconds(at));
    series.bytes.push(bytesAt(at));
    series.loss.push(curve(at) * (0.93 + 0.14 * noise()));
    series.accuracy.push(Math.min(1, right(at) + 0.06 * noise() - 0.03));
    series.eta.push(0.001);
  }
  const evaluations = [];
  for (let at = rounds / 20; at <= round; at += rounds / 20) {
    evaluations.push({ round: at, loss: curve(at) * 1.08, accuracy: right(at) - 0.012, seconds: seconds(at), bytes: bytesAt(at) });
  }
  const points = Math.min(100, round);
  const history_rounds = Array.from({ length: points }, (_, at) => Math.round(((at + 1) * round) / points));
  const limit = mean || round < 3 ? null : 0.65;
  const list = Array.from({ length: workers }, (_, at) => {
    const slot = at + 1;
    const lies = liars.includes(slot);
    const base = lies ? 0.56 : 0.69;
    const own = numbers(slot * 7919);
    const agreement = mean || round === 0 ? null : base + (lies ? 0 : 0.004) * Math.sin(slot);
    const apart = lies && limit !== null;
    const state = phase === 'finished' || slot % 61 === 60 ? 'away' : slot % 71 === 70 ? 'behind' : slot % 83 === 82 ? 'not_awaited' : 'voting';
    return {
      slot,
      name: hostile && slot === 1 ? '<img src=x onerror="document.title=1">' : `worker-${slot}`,
      state,
      lag_rounds: state === 'behind' ? 14 : 0,
      rounds: round,
      late_chunks: slot === 5 ? 3 : 0,
      agreement,
      history: history_rounds.map((_, i) => (mean || (slot === 6 && i > 30 && i < 36) ? null : Math.round(1000 * (base + 0.12 * Math.exp(-i / 12) * (lies ? -0.6 : 1) + 0.024 * own() - 0.012)))),
      up_bytes: Math.round(round * (DIMENSION / 8 + 24)) + 4100,
      down_bytes: Math.round(round * (DIMENSION / 8 + 24)) + 441_000,
      apart,
      verdict: limit === null ? '' : apart ? 'agrees much less than the others: in 56.0%, where most agree in 68.6% to 69.3%' : 'votes like the others',
      last: slot === 5 ? 'missed the deadline of round 88' : `joined in round ${slot % 3}`,
    };
  });
  const log = Array.from({ length: entries }, (_, at) => {
    const warning = at % 5 === 3 && liars.length > 0;
    const words = warning
      ? `worker-${liars[at % liars.length]} is set apart: agrees much less than the others`
      : at % 2 === 0 ? `test accuracy ${(50 + at / 8).toFixed(1)}%, loss ${(2 - at / 200).toFixed(3)}` : `worker-${(at % workers) + 1} joined`;
    return { id: at, time: 1.76e9 + at * 7, round: Math.round((at * round) / entries), event: warning ? 'apart' : 'evaluated', slot: warning ? liars[at % liars.length] : null, warning, words };
  });
  const times = round === 0 ? null : (2 * plain) / bytesAt(round);
  const margins = mean || round === 0 ? null : summed({
    round,
    tensors: Array.from({ length: tensors }, (_, at) => ({
      name: tensors > names.length ? `blocks.${Math.floor(at / 8)}.${names[at % 8]}` : names[at],
      bins: Array.from({ length: 11 }, (_, bin) => Math.round((at % 2 === 0 ? 1024 : 48) * (0.25 * Math.exp(-bin / 3) + 0.12 * Math.exp((bin - 10) / (1 + (at % 5)))) * (0.9 + 0.2 * random()))),
    })),
  });
  return {
    version: 1,
    run: '7c1e09a4d2b85f36',
    address: '127.0.0.1:7400',
    title: mean ? 'cnn on fashion, mean of gradients' : 'cnn on fashion, vote of momentum',
    config: `model = "cnn"\ndata = "fashion"\nworkers = ${workers}\nrounds = ${rounds}\nseed = 1\n\n[aggregate]\nkind = "vote"\nmomentum = 0.9\n`,
    files: ['config.toml', 'events.jsonl', 'model.safetensors'],
    health: healthOf(list, phase, limit),
    phase,
    reason: phase === 'running' ? 'all ballots came' : phase === 'finished' ? 'all rounds are done' : '',
    round,
    rounds,
    incarnation: 0,
    dimension: DIMENSION,
    places: workers,
    quorum: Math.ceil((workers * 2) / 3),
    tolerated_liars: Math.floor((workers - 1) / 2),
    kernels: 'AVX2: the best that this processor has',
    began: 1.76e9,
    time: options.time ?? Date.now() / 1000,
    training_seconds: seconds(round),
    loss: round === 0 ? null : curve(round),
    accuracy: round === 0 ? null : right(round),
    eta: round === 0 ? null : 0.001,
    voters: round === 0 ? 0 : workers,
    ties: 0,
    holds: Math.round(DIMENSION * 0.013),
    pace: {
      rounds_per_second: round === 0 ? 0 : 42.5,
      bytes_per_second: bytesAt(42.5),
      f32_bytes_per_second: 2 * 42.5 * workers * DIMENSION * 4,
      times_less: round === 0 ? null : times,
    },
    bytes: { round_up: Math.round(bytesAt(round) / 2), round_down: bytesAt(round) - Math.round(bytesAt(round) / 2), join: workers * 441_000, f32_each_way: plain, times_less_up: times, times_less_down: times, times_less: times },
    series,
    evaluations,
    workers: list,
    history_rounds,
    rule: {
      low: limit === null ? null : 0.686, high: limit === null ? null : 0.693,
      limit,
      words:
        limit === null
          ? 'No worker is set apart before 3 have voted.'
          : "4 of 7 workers agree with the verdict in 68.6% to 69.3% of their votes: the tightest range that holds more than half of them. Set apart is who agrees in less than 64.6%: that is 4.0 points below it, its own width or 4 points, whichever is more. Such a worker lies, is broken, or has data unlike the others'.",
    },
    margins,
    entries: log,
    entries_before: entries >= 200 ? 1840 : 0,
  };
}

/** Starts it. `stop` ends its streams too, as the end of a process would. */
export async function serve({ port = 0, first = 600, step = 7, every = 1000, ...options } = {}) {
  const rounds = options.rounds ?? 1200;
  let round = Math.min(first, rounds);
  const now = () => JSON.stringify(snapshot(round, round >= rounds ? { ...options, phase: 'finished' } : options));
  const streams = new Set();
  const send = (stream, text) => stream.write(`event: snapshot\ndata: ${text}\n\n`);
  const requests = [];

  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://fake').pathname;
    requests.push(path);
    const head = { 'content-security-policy': POLICY, 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' };
    if (path === '/api/stream') {
      response.writeHead(200, { ...head, 'content-type': 'text/event-stream' });
      streams.add(response);
      request.on('close', () => streams.delete(response));
      send(response, fake.override ?? now());
    } else if (path === '/api/snapshot') {
      response.writeHead(200, { ...head, 'content-type': 'application/json' }).end(now());
    } else if (path === '/metrics') {
      response.writeHead(200, { ...head, 'content-type': 'text/plain' }).end(`signvote_round ${round}\n`);
    } else if (path.startsWith('/files/')) {
      response.writeHead(200, { ...head, 'content-type': 'application/octet-stream' }).end('made up\n');
    } else {
      const name = path === '/' ? 'index.html' : path.slice(1);
      try {
        if (!/^[a-z]+\.(html|js|css)$/.test(name)) throw new Error('no such file');
        const text = await readFile(ASSETS + name);
        response.writeHead(200, { ...head, 'content-type': TYPES[name.split('.')[1]] }).end(text);
      } catch {
        response.writeHead(404, head).end('not found\n');
      }
    }
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));

  const fake = {
    requests,
    override: undefined,
    port: server.address().port,
    url: `http://127.0.0.1:${server.address().port}/`,
    round: () => round,
    /** A snapshot now, to all. */
    push(by = step) {
      round = Math.min(rounds, round + by);
      const text = fake.override ?? now();
      for (const stream of streams) send(stream, text);
    },
    async stop() {
      clearInterval(timer);
      for (const stream of streams) stream.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const timer = every > 0 ? setInterval(() => round < rounds && fake.push(), every) : undefined;
  return fake;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '8080' },
      workers: { type: 'string' },
      large: { type: 'boolean' },
      finished: { type: 'boolean' },
      mean: { type: 'boolean' },
      healthy: { type: 'boolean' },
    },
  });
  const options = { port: Number(values.port), ...(values.large ? { ...LARGE, first: 9000 } : {}) };
  if (values.workers) options.workers = Number(values.workers);
  if (values.finished) options.first = Infinity;
  if (values.mean) options.mean = true;
  if (values.healthy) options.liars = [];
  console.log((await serve(options)).url);
}
