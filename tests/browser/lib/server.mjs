// A real server with its own state directory.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdtempSync, mkdirSync, openSync, closeSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.mjs';

export const PASSWORD = 'correct horse battery';

const program = process.env.BTY_WEB ?? new URL('../../../target/debug/bty-web', import.meta.url).pathname;

export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

export class Server {
  // With `password: null`, the server needs no password. `path` is where its pages are, such as
  // /bty. `env` may be a function that returns the variables.
  static async start(options = {}) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await Server.startOnce(options);
      } catch (error) {
        // another program may have taken a port that was free a moment ago
        if (tries === 5 || !error.message.includes('Address already in use')) throw error;
      }
    }
  }

  static async startOnce({ password = PASSWORD, path = '', env = {} }) {
    const server = new Server();
    server.password = password;
    server.state = mkdtempSync(join(tmpdir(), 'bty-browser-'));
    server.seed = join(server.state, 'seed');
    mkdirSync(server.seed);
    server.port = await freePort();
    server.base = `http://127.0.0.1:${server.port}`;
    const own = typeof env === 'function' ? await env() : env;
    server.env = path ? { BTY_SERVER_PUBLIC_URL: server.base + path, ...own } : own;
    // a crashed test must not leave a server or files behind
    process.on('exit', () => {
      server.child?.kill('SIGKILL');
      rmSync(server.state, { recursive: true, force: true });
    });
    await server.launch();
    return server;
  }

  // Starts a server with an embedded cache host that may fetch from loopback addresses.
  static async withCache(options = {}) {
    const env = async () => ({
      BTY_CACHE_EMBEDDED: '1',
      BTY_CACHE_LISTEN: `127.0.0.1:${await freePort()}`,
      BTY_CACHE_REACH: '127.0.0.0/8',
      BTY_CACHE_ORIGINS: '127.0.0.1',
      ...options.env,
    });
    return Server.start({ ...options, env });
  }

  async launch() {
    const log = openSync(join(this.state, 'log'), 'a');
    const env = {
      PATH: process.env.PATH,
      BTY_PATHS_STATE_DIR: this.state,
      BTY_BOOT_SEED_DIR: this.seed,
      BTY_SERVER_HOST: '127.0.0.1',
      BTY_SERVER_PORT: String(this.port),
      ...(this.password ? { BTY_ADMIN_PASSWORD: this.password } : {}),
      ...this.env,
    };
    const earlier = this.log().length;
    const child = spawn(program, [], { env, stdio: ['ignore', 'ignore', log] });
    closeSync(log);
    this.child = child;
    this.exited = new Promise((resolve) => child.once('exit', resolve));
    child.once('error', (error) => console.error(`${program}: ${error.message}`));
    await until('the server answers', async () => {
      if (child.exitCode !== null) throw new Error(`bty-web ended:\n${this.log()}`);
      // before that, another program's server may answer at this port
      if (!this.log().slice(earlier).includes('server started')) return false;
      return (await fetch(`${this.base}/healthz`).catch(() => null))?.ok;
    });
    if (this.password) await this.logIn();
  }

  async stop() {
    if (!this.child) return;
    this.child.kill('SIGTERM');
    await this.exited;
    this.child = null;
  }

  // Stops the server and deletes its state.
  async end() {
    await this.stop();
    rmSync(this.state, { recursive: true, force: true });
  }

  log() {
    return readFileSync(join(this.state, 'log'), 'utf8');
  }

  async logIn() {
    const body = new URLSearchParams({ password: this.password });
    const answer = await fetch(`${this.base}/ui/login`, { method: 'POST', body, redirect: 'manual' });
    this.cookie = answer.headers.get('set-cookie').split(';')[0];
  }

  // Sends a request as the operator. A body that is not a string is sent as JSON.
  async request(method, path, body) {
    // on a busy machine, the server may close an idle connection just when it is used again
    const headers = { connection: 'close', ...(this.cookie ? { cookie: this.cookie } : {}) };
    const isText = typeof body === 'string';
    if (body !== undefined && !isText) headers['content-type'] = 'application/json';
    const sent = isText || body === undefined ? body : JSON.stringify(body);
    return fetch(this.base + path, { method, headers, body: sent, redirect: 'manual' });
  }

  // Like `request`, but must succeed. Returns the JSON of the response.
  async api(method, path, body) {
    const answer = await this.request(method, path, body);
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text && answer.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text;
  }
}
