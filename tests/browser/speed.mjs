// Measures response times with 10,000 machines and 1,000,000 events, and the bytes of a first
// visit. Prints a Markdown table. Not a test: times depend on the machine. BTY_WEB is the path of
// the server, which should be a release build.
import { execFileSync } from 'node:child_process';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { openBrowser } from './lib/browser.mjs';
import { fleet } from './lib/seeds.mjs';
import { Server } from './lib/server.mjs';

const MACHINES = Number(process.env.MACHINES ?? 10_000);
const EVENTS = Number(process.env.EVENTS ?? 1_000_000);
const TIMES = 20;

// Multiplies the rows that the server has written for forty machines, so that all rows have the
// server's own format.
const GROW = `
import sqlite3, sys
path, machines, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
db = sqlite3.connect(path)
db.execute("PRAGMA synchronous = OFF")
def columns(table, without):
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in without]
db.execute("CREATE TEMP TABLE seed AS SELECT row_number() OVER (ORDER BY mac) - 1 AS n, * FROM machines")
db.execute("CREATE TEMP TABLE log AS SELECT row_number() OVER (ORDER BY id) - 1 AS n, * FROM events WHERE subject_kind = 'machine'")
seeds = db.execute("SELECT count(*) FROM seed").fetchone()[0]
logged = db.execute("SELECT count(*) FROM log").fetchone()[0]
db.execute("CREATE TEMP TABLE series AS WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i + 1 < ?) SELECT i FROM s", (max(machines, events),))
mac = "printf('02:b8:00:%02x:%02x:%02x', {0} / 65536 % 256, {0} / 256 % 256, {0} % 256)"
plain = ", ".join(columns("machines", ["mac", "labels_json", "last_seen_ip"]))
db.execute(f"""INSERT INTO machines (mac, labels_json, last_seen_ip, {plain})
  SELECT {mac.format('i')}, json_array('rack ' || (i / 40), 'slot ' || (i % 40)), '10.' || (i / 62500) || '.' || (i / 250 % 250) || '.' || (i % 250 + 1), {plain}
  FROM series JOIN seed ON seed.n = i % {seeds} WHERE i < ?""", (machines - seeds,))
db.execute(f"""INSERT INTO machine_lshw SELECT m.mac, l.lshw_json, l.lshw_at FROM machines m, (SELECT * FROM machine_lshw LIMIT 1) l
  WHERE m.mac LIKE '02:b8:%'""")
before = db.execute("SELECT count(*) FROM events").fetchone()[0]
plain = ", ".join(columns("events", ["id", "ts", "subject_id", "summary"]))
db.execute(f"""INSERT INTO events (ts, subject_id, summary, {plain})
  SELECT ts - (? - i) * 100, {mac.format(f'(i % {machines - seeds})')}, {mac.format(f'(i % {machines - seeds})')} || substr(summary, 18), {plain}
  FROM series JOIN log ON log.n = i % {logged} WHERE i < ?""", (events, events - before))
db.commit()
for table in ("machines", "events"):
    print(table, db.execute(f"SELECT count(*) FROM {table}").fetchone()[0], file=sys.stderr)
`;

const MAC = '02-b8-00-00-10-00';

const PAGES = [
  '/ui/dashboard', '/ui/machines', '/ui/machines?per_page=100', '/ui/machines?page=200', '/ui/machines?sort=-seen', '/ui/machines?sort=state', '/ui/machines?q=rack+17',
  '/ui/machines?q=no+such+thing', '/ui/machines?state=trouble', `/ui/machines/${MAC}`, '/ui/plans', '/ui/plans/night', '/ui/plans/night/edit', '/ui/images', '/ui/netboot',
  '/ui/events', '/ui/events?q=failed+ack:no', '/ui/events?q=machine.flashed', `/ui/events?q=${MAC}`, '/ui/events?q=actor:operator', '/ui/events?q=10.0.0.7',
  '/ui/events?q=debian', '/ui/events?q=no+such+thing', '/ui/backups', '/ui/settings', '/ui/account', '/ui/cache', '/docs/api',
];

const agent = new Agent({ keepAlive: true, maxSockets: 1 });

// Milliseconds from the request to the last byte.
function time(server, path) {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    const asked = request(server.base + path, { agent, headers: { cookie: server.cookie, accept: 'text/html' } }, (answer) => {
      if (answer.statusCode !== 200) reject(new Error(`${path}: ${answer.statusCode}`));
      answer.on('data', () => {});
      answer.on('end', () => resolve(performance.now() - begun));
    });
    asked.on('error', reject);
    asked.end();
  });
}

async function times(server, path) {
  const all = [];
  for (let i = 0; i < TIMES; i += 1) all.push(await time(server, path));
  all.sort((a, b) => a - b);
  return { median: all[TIMES / 2], worst: all[TIMES - 1] };
}

// Time for a page to start the requests that it sends after loading.
const AGAIN_MS = 2000;

// Bytes transferred by a first visit, including headers: for the page with its resources, and for
// later requests of its scripts.
async function bytes(browser, server, path) {
  const context = await browser.newContext({ baseURL: server.base });
  const [name, value] = server.cookie.split(/=(.*)/s);
  await context.addCookies([{ name, value, url: server.base }]);
  const page = await context.newPage();
  const protocol = await context.newCDPSession(page);
  await protocol.send('Network.enable');
  const sums = { needed: 0, fetched: 0 };
  const types = new Map();
  protocol.on('Network.requestWillBeSent', ({ requestId, type }) => types.set(requestId, type));
  protocol.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    sums[['Fetch', 'XHR'].includes(types.get(requestId)) ? 'fetched' : 'needed'] += encodedDataLength;
  });
  await page.goto(path, { waitUntil: 'load' });
  await pause(AGAIN_MS);
  await context.close();
  return sums;
}

const kib = (bytes) => (bytes / 1024).toFixed(0);

// Everything above the table of figures, as all pages of benchmarks have it: see
// tests/bench/page.py.
function opening(rows) {
  const [slowest, largest] = ['median', 'needed'].map((field) => Math.max(...rows.map((row) => row[field])));
  const aim = [
    ['every page in at most 100 ms', `${slowest.toFixed(1)} ms`, slowest <= 100],
    ['a first visit in at most 150 KiB', `${kib(largest)} KiB`, largest <= 150 * 1024],
  ];
  const text = {
    about: 'How long the pages of the server take with a large fleet, and how many bytes a first visit needs.',
    how: `${MACHINES} machines, ${EVENTS} events, ${TIMES} requests for each page from loopback, one after the other. A first visit is the page with all that it needs, headers included, by a browser that has nothing of it yet.`,
  };
  const python = [
    'import json, sys, page',
    'text, aims = json.load(sys.stdin)',
    'print(page.opening("pages", text["about"], aims, "bench-pages", "tests/browser/speed.mjs", text["how"]))',
  ].join('\n');
  const bench = new URL('../bench', import.meta.url).pathname;
  return execFileSync('python3', ['-c', python], { input: JSON.stringify([text, aim]), env: { ...process.env, PYTHONPATH: bench, PYTHONDONTWRITEBYTECODE: '1' } }).toString();
}

const server = await Server.withCache();
const browser = await openBrowser();
try {
  await fleet(server);
  await server.stop();
  execFileSync('python3', ['-c', GROW, join(server.state, 'state.db'), String(MACHINES), String(EVENTS)], { stdio: 'inherit' });
  await server.launch();
  const rows = [];
  for (const path of PAGES) rows.push({ path, ...await times(server, path), ...await bytes(browser, server, path) });
  console.log(opening(rows));
  console.log('| page | median ms | worst ms | first visit KiB | fetched by itself then KiB |\n|---|---:|---:|---:|---:|');
  for (const { path, median, worst, needed, fetched } of rows) {
    console.log(`| \`${path}\` | ${median.toFixed(1)} | ${worst.toFixed(1)} | ${kib(needed)} | ${kib(fetched)} |`);
  }
} finally {
  await browser.close();
  await server.end();
  agent.destroy();
}
