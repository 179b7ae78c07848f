// A simulated machine, which sends the same HTTP requests as a real one.
import assert from 'node:assert/strict';
import http from 'node:http';
import { text } from 'node:stream/consumers';

const GIB = 2 ** 30;

// A short version of the output of `lshw -json`.
export const hardware = (mac, serial, texts = {}) => ({
  id: 'system', class: 'system', vendor: 'ACME', product: 'Rack 1', ...texts,
  children: [{
    id: 'core', class: 'bus', description: 'Motherboard', children: [
      { id: 'memory', class: 'memory', description: 'System Memory', size: 16 * GIB, children: [
        { id: 'bank:0', class: 'memory', description: 'DIMM DDR4', size: 16 * GIB, slot: 'A1' }] },
      { id: 'cpu', class: 'processor', product: 'Simulated 8-Core', ...texts, configuration: { cores: '8', threads: '16' } },
      { id: 'network', class: 'network', product: 'Ethernet 10G', ...texts, logicalname: 'eth0', serial: mac },
      { id: 'nvme', class: 'storage', children: [
        { id: 'disk', class: 'disk', serial, logicalname: '/dev/nvme0n1', size: 480 * GIB, children: [
          { id: 'volume:0', class: 'volume', description: 'EFI System', size: GIB, logicalname: '/dev/nvme0n1p1' },
          { id: 'volume:1', class: 'volume', description: 'EXT4 volume', ...texts, size: 200 * GIB, logicalname: '/dev/nvme0n1p2' }] }] },
    ],
  }],
});

// Sends a request without the headers of browsers, which `fetch` adds and the server refuses on
// these routes.
const ask = (url, { method = 'GET', headers = {}, body } = {}) => new Promise((resolve, reject) => {
  const request = http.request(url, { method, headers }, async (answer) => {
    resolve({ status: answer.statusCode, text: await text(answer) });
  });
  request.on('error', reject);
  request.end(body);
});

export class Machine {
  constructor(server, number) {
    this.server = server;
    // a locally administered address, which no real machine has
    const hex = number.toString(16).padStart(6, '0').match(/../g);
    this.mac = ['02', 'b7', 'f0', ...hex].join(':');
    this.hyphens = this.mac.replaceAll(':', '-');
    this.path = `/ui/machines/${this.hyphens}`;
    this.serial = `NVME-${number}`;
    this.second = `SATA-${number}`;
    this.boots = 0;
  }

  disks() {
    return [
      { path: '/dev/nvme0n1', size_bytes: 480 * GIB, vendor: 'ACME', model: 'Fast 480', serial: this.serial, tran: 'nvme', removable: false, readonly: false },
      { path: '/dev/sda', size_bytes: 4000 * GIB, vendor: 'ACME', model: 'Large 4T', serial: this.second, tran: 'sata', removable: false, readonly: false },
    ];
  }

  bind(binding) {
    return this.server.api('PUT', `/machines/${this.mac}`, binding);
  }

  shown() {
    return this.server.api('GET', `/machines/${this.mac}`);
  }

  // Requests the script like iPXE and returns it. Stores the token of the boot cycle.
  async contact() {
    this.boots += 1;
    const { text: script } = await ask(`${this.server.base}/pxe/${this.hyphens}?boot=b${this.boots}`);
    this.token = /bty\.cycle=(\S+)/.exec(script)?.[1];
    return script;
  }

  async takeStock(disks = this.disks(), lshw = hardware(this.mac, this.serial)) {
    assert.equal(await this.post('inventory', { disks, lshw }), 204, 'the inventory is taken');
  }

  // Requests the plan: a plan script, or JSON.
  async plan() {
    const headers = { accept: 'text/rhai, application/json;q=0.5' };
    return (await ask(`${this.server.base}/pxe/${this.mac}/plan?cycle=${this.token}`, { headers })).text;
  }

  // Does everything from power-on to the request for the plan.
  async boot() {
    const script = await this.contact();
    if (!this.token) return script;
    await this.takeStock();
    return this.plan();
  }

  async progress(percent, phase = 'write') {
    const total = 8 * GIB;
    const done = Math.ceil(total * percent / 100);
    const progress = {
      phase, source_bytes: Math.floor(done / 4), source_total: total / 4, decoded_bytes: done, decoded_total: total,
      written_bytes: phase === 'verify' ? total : done, verified_bytes: phase === 'verify' ? done : 0,
    };
    assert.equal(await this.post('status', { status: 'progress', progress }), 204, 'the progress is taken');
  }

  async done(image = 'simulated') {
    const disk = { path: '/dev/nvme0n1', serial: this.serial, image, sha256: null, disk_bytes: 8 * GIB, verified_bytes: 8 * GIB };
    assert.equal(await this.post('status', { status: 'done', disks: [disk] }), 204, 'the end is taken');
  }

  async failed(reason) {
    assert.equal(await this.post('status', { status: 'failed', reason }), 204, 'the failure is taken');
  }

  async post(what, body) {
    const url = `${this.server.base}/pxe/${this.mac}/${what}?cycle=${this.token ?? ''}`;
    const headers = { 'content-type': 'application/json' };
    return (await ask(url, { method: 'POST', headers, body: JSON.stringify(body) })).status;
  }
}
