// Initial content of servers.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hardware, Machine } from './machine.mjs';

const digest = (n) => n.toString(16).padStart(2, '0').repeat(32);

const NOWHERE = 'https://images.example';

// Imports images that are never fetched. Returns their references by name.
export async function images(server, entries, base = NOWHERE) {
  const lines = entries.map(({ name, about = '', src }, i) => [
    '[[images]]', `name = ${JSON.stringify(name)}`, `src = ${JSON.stringify(src ?? `${base}/${name.replaceAll(' ', '-')}.img.zst`)}`,
    `sha256 = "${digest(i + 1)}"`, 'format = "img.zst"', `size_bytes = ${(i + 1) * 300_000_000}`, 'arch = "x86_64"',
    `description = ${JSON.stringify(about)}`,
  ].join('\n'));
  const path = join(server.state, 'seed.toml');
  writeFileSync(path, `version = 1\n${lines.join('\n')}\n`);
  const imported = await server.api('POST', `/catalog/import?source=${encodeURIComponent(path)}`);
  if (imported.imported !== entries.length) throw new Error(`not all images were imported: ${JSON.stringify(imported)}`);
  const known = await server.api('GET', '/images');
  return Object.fromEntries(known.map((image) => [image.name, image.ref]));
}

export const PLAN = `//! Flash in the night only.

fn declare() {
    #{
        needs: ["image", "disk"],
        parameters: #{
            from_hour: #{ type: "int", preset: 22, min: 0, max: 23, about: "not before this hour" },
            rack: #{ type: "string", about: "where it stands" },
            is_urgent: #{ type: "bool", preset: false, about: "do not wait" },
        },
    }
}

fn boot(m) {
    if m.problem != () { return boot_firmware(m.problem); }
    if m.params.is_urgent { boot_live() } else { boot_disk() }
}

fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }

fn run(p) {
    flash(p.image, disks::wait("serial:" + p.disk.serial, 60), #{});
    reboot();
}
`;

// Saves two revisions of a plan with parameters.
export async function plan(server, name = 'night') {
  await server.api('PUT', `/plans/${name}`, { source: PLAN.replace('22', '21'), note: 'first try' });
  await server.api('PUT', `/plans/${name}`, { source: PLAN, note: 'an hour later' });
}

// Uploads the files of a live environment, as its build does.
export async function liveEnvironment(server) {
  const { version } = await server.api('GET', '/version');
  for (const part of ['vmlinuz', 'initrd', 'squashfs']) {
    const answer = await server.request('PUT', `/boot/bty-netboot-pc-x86_64-v${version}.${part}`, part);
    if (!answer.ok) throw new Error(`${part}: ${answer.status} ${await answer.text()}`);
  }
}

// Creates forty machines, eight in each phase.
export async function fleet(server, base) {
  const entries = [{ name: 'debian 13', about: 'For everything' }, { name: 'ubuntu 24.04' }, { name: 'rescue', about: 'Small' }];
  const refs = await images(server, entries, base);
  await plan(server);
  const machines = Array.from({ length: 40 }, (_, n) => new Machine(server, n + 1));
  for (const [n, machine] of machines.entries()) await LIVES[n % LIVES.length](machine, refs['debian 13'], n);
  return { machines, refs };
}

const flash = (machine, image, n) => machine.bind({
  boot_mode: 'bty-flash-once', bty_image_ref: image, target_disk_serial: machine.serial, labels: ['rack 1', `slot ${n}`],
});

async function ordered(machine, image, n) {
  await flash(machine, image, n);
  await machine.boot();
}

// Brings a machine into each phase.
const LIVES = [
  async function trouble(machine, image, n) {
    await ordered(machine, image, n);
    await machine.failed('the disk /dev/nvme0n1 has gone while it was written');
  },
  async function working(machine, image, n) {
    await ordered(machine, image, n);
    await machine.progress(n);
  },
  flash,
  async function done(machine, image, n) {
    await ordered(machine, image, n);
    await machine.done();
  },
  async function idle(machine) {
    await machine.contact();
    await machine.takeStock();
    await machine.bind({ boot_mode: 'ipxe-exit', labels: ['spare'] });
  },
];

// Hostile values: markup, right-to-left text, and a long text.
export const MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'"><b onmouseover=window.hacked=1>';
export const TURNED = '\u202Eהפוך\u202E שלום العربية';
export const LONG = 'x'.repeat(300);
const EVIL = [MARKUP, TURNED, LONG];

const evilPlan = (text) => `//! ${text}

fn declare() {
    #{ needs: ["image", "disk"], parameters: #{
        words: #{ type: "string", preset: ${JSON.stringify(text)}, about: ${JSON.stringify(text)} },
        chosen: #{ type: "string", preset: ${JSON.stringify(text)}, choices: [${JSON.stringify(text)}, "b"], about: "" },
    } }
}
// ${text}
fn boot(m) { boot_live() }
fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }
fn run(p) { flash(p.image, disks::wait("serial:" + p.disk.serial, 60), #{}); }
`;

// Fills a server with hostile values in every field. Returns the machines, one per value.
export async function hostile(server) {
  const refs = await images(server, EVIL.map((text, i) => ({ name: text, about: text, src: `https://images.example/${i}${encodeURI(text)}.img.zst` })));
  const machines = [];
  for (const [n, text] of EVIL.entries()) {
    await server.api('PUT', `/plans/evil-${n}`, { source: evilPlan(text), note: text });
    await server.api('PUT', `/plans/evil-${n}`, { source: `${evilPlan(text)}// ${text}\n`, note: text });
    await server.api('POST', '/tokens', { name: text.slice(0, 128), scopes: ['read'] });
    machines.push(await evilMachine(server, n, text, refs[text]));
  }
  await server.api('PUT', '/settings', { 'upstream.catalog_url': `https://catalogs.example/${encodeURI(MARKUP)}${LONG}` });
  return machines;
}

async function evilMachine(server, n, text, image) {
  const machine = new Machine(server, 0xe0 + n);
  const serial = text.slice(0, 128);
  machine.serial = serial;
  await machine.bind({
    boot_mode: `evil-${n}`, bty_image_ref: image, target_disk_serial: serial, params: { words: text },
    labels: Array.from({ length: 16 }, (_, i) => `${i}`.padEnd(64, 'l')),
  });
  await machine.contact();
  const model = text.slice(0, 255);
  const disks = machine.disks().map((disk) => ({ ...disk, model, vendor: model, path: `/dev/${text}`.slice(0, 255) }));
  await machine.takeStock(disks, hardware(machine.mac, serial, { product: text, vendor: text, description: text }));
  await machine.plan();
  await machine.failed(text);
  return machine;
}
