// Every form of every page: valid input takes effect, invalid input is refused with a message.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { each, faultless } from './lib/checks.mjs';
import { enter, openBrowser, operator, REFUSED } from './lib/browser.mjs';
import { card, confirm, press, refused, submit, told, unchecked } from './lib/form.mjs';
import { Machine } from './lib/machine.mjs';
import { origin } from './lib/origin.mjs';
import { PAGES } from './lib/pages.mjs';
import { fleet } from './lib/seeds.mjs';
import { PASSWORD, Server } from './lib/server.mjs';

let browser, server, machines, files, page;

const deferred = () => {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
};

before(async () => {
  browser = await openBrowser();
  // no request leaves this machine: fetching a release always fails at once
  const nowhere = { https_proxy: 'http://127.0.0.1:1', HTTPS_PROXY: 'http://127.0.0.1:1' };
  server = await Server.withCache({ env: nowhere });
  files = await origin({ 'small.img': 'x'.repeat(4096), 'other.img': 'y'.repeat(4096) });
  // images that do not exist on a server that responds at once
  ({ machines } = await fleet(server, files.base));
});

after(async () => {
  await browser?.close();
  await server?.end();
  files?.end();
});

beforeEach(async () => {
  page = await operator(browser, server, { allow: [REFUSED] });
});

afterEach(async () => {
  const { faults } = page;
  await page.context().close();
  assert.deepEqual(faults, [], 'the page has faults');
});

test('log-in and log-out', async () => {
  const page = await operator(browser, server, { logIn: false });
  await page.goto('/ui/machines');
  await page.waitForURL('**/ui/login');
  await page.getByLabel('Password').fill('wrong');
  await press(page, 'Log in');
  await refused(page, 'Invalid user name or password');
  await enter(page);
  await press(page, 'Log out');
  await page.waitForURL('**/ui/login');
  await page.goto('/ui/dashboard');
  await page.waitForURL('**/ui/login');
  faultless(page, 'log-in');
  await page.context().close();
});

// The POST forms of a page, with their current values.
const FORMS = () => [...document.querySelectorAll('form')].filter((form) => form.method === 'post').map((form) => ({
  action: form.getAttribute('action'), type: form.enctype, fields: [...new FormData(form)].filter(([, value]) => typeof value === 'string'),
}));

test('a form of another session is refused', async () => {
  const before = await server.api('GET', '/events?limit=1');
  let count = 0;
  await each(PAGES, async ([name, path]) => {
    await page.goto(path);
    for (const { action, type, fields } of await page.evaluate(FORMS)) {
      if (type === 'multipart/form-data') continue;
      const csrf = fields.find(([field]) => field === 'csrf');
      assert.ok(csrf?.[1], `${name}: the form of ${action} carries nothing against other sites`);
      const body = new URLSearchParams(fields.map(([field, value]) => [field, field === 'csrf' ? 'wrong' : value]));
      const headers = { cookie: server.cookie, 'content-type': 'application/x-www-form-urlencoded' };
      const answer = await fetch(server.base + action, { method: 'POST', headers, body, redirect: 'manual' });
      assert.equal(answer.status, 403, `${name}: ${action}`);
      count += 1;
    }
  });
  assert.ok(count > 50, `${count} forms were tried`);
  assert.deepEqual(await server.api('GET', '/events?limit=1'), before, 'nothing has happened');
});

test('an upload from another site is refused', async () => {
  // the server refuses it before it has received the file
  await page.goto('/ui/images');
  const own = await page.locator('form[action="/ui/catalog/upload"] input[name=csrf]').inputValue();
  const part = (head, text) => `--b\r\ncontent-disposition: form-data; ${head}\r\n\r\n${text}\r\n`;
  const file = part('name="file"; filename="c.toml"', 'version = 1\n');
  const session = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join('; ');
  const fixed = { cookie: session, 'content-type': 'multipart/form-data; boundary=b' };
  const send = (headers, csrf = own) => {
    const body = `${csrf ? part('name="csrf"', csrf) : ''}${file}--b--\r\n`;
    return fetch(`${server.base}/ui/catalog/upload`, { method: 'POST', headers: { ...fixed, ...headers }, body });
  };
  assert.equal((await send({ origin: 'http://evil.example' })).status, 403);
  assert.equal((await send({ 'sec-fetch-site': 'cross-site' })).status, 403);
  assert.equal((await send({ origin: server.base }, 'wrong')).status, 403);
  assert.equal((await send({ origin: server.base }, '')).status, 403);
  assert.equal((await send({ origin: server.base })).status, 200);
});

test('machines: search, choose, sort, add', async () => {
  await page.goto('/ui/machines');
  const rows = page.locator('#list tbody tr');
  await page.getByRole('searchbox', { name: 'Search' }).fill('label:"slot 12"');
  await page.waitForFunction(() => document.querySelectorAll('#list tbody tr').length === 1);
  await page.getByRole('searchbox', { name: 'Search' }).fill('');
  await page.getByLabel('State').selectOption('done');
  await page.waitForFunction(() => document.querySelectorAll('#list tbody tr').length === 8);
  await page.waitForURL('**state=done*');
  await page.getByRole('columnheader', { name: 'MAC' }).getByRole('link').click();
  await page.locator('th[aria-sort=descending]').waitFor();
  assert.equal(await rows.first().getByRole('rowheader').innerText(), machines[38].mac);
  await page.reload();
  assert.equal(await rows.count(), 8, 'the address says all of it');
  await page.getByLabel('Add by MAC').fill('no address');
  await press(page, 'Add');
  await refused(page, 'MAC');
  await page.getByLabel('Add by MAC').fill('52-54-00-AA-BB-CC');
  await press(page, 'Add');
  await page.getByRole('heading', { level: 1, name: '52:54:00:aa:bb:cc' }).waitFor();
  await page.getByText('This machine is new').waitFor();
  await press(page, 'Save');
  await told(page, 'is saved');
  assert.equal((await server.api('GET', '/machines/52:54:00:aa:bb:cc')).boot_mode, 'ipxe-exit');
});

test('machine: the binding, and its next boots while it is edited', async () => {
  const machine = machines[4];
  const form = page.locator('#binding');
  await page.goto(machine.path);
  await form.getByLabel('Plan', { exact: true }).selectOption('night');
  // the fields for the parameters of the plan, and the missing values
  await form.getByLabel('rack (required)').waitFor();
  await page.locator('#next').getByText('the plan needs a disk, and none is assigned').waitFor();
  await form.getByLabel('Image', { exact: true }).selectOption({ index: 1 });
  await form.getByLabel('Target disk').selectOption(machine.serial);
  await form.getByLabel('rack (required)').fill('r7');
  await page.waitForFunction(() => !document.querySelector('#next .wrong') && document.querySelectorAll('#next li').length > 0);
  await form.getByText('More', { exact: true }).click();
  await form.getByLabel('Labels').fill('-wrong');
  await submit(form, 'Save');
  await refused(page, 'invalid assignment');
  assert.equal(await form.getByLabel('rack (required)').inputValue(), 'r7', 'what was typed is still there');
  await form.getByText('More', { exact: true }).click();
  await form.getByLabel('Labels').fill('spare, r7');
  await submit(form, 'Save');
  // the plan writes to the disk, but not at the next boots
  await page.locator('.danger').getByText('This can overwrite a disk').waitFor();
  await page.locator('.danger').getByRole('button').click();
  await told(page, 'with the plan night');
  const saved = await machine.shown();
  assert.deepEqual([saved.boot_mode, saved.params, saved.labels], ['night', { rack: 'r7' }, ['r7', 'spare']]);
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  assert.equal((await machine.shown()).boot_mode, 'ipxe-exit');
});

test('machine: what is typed outlives an answer to what was there before', async () => {
  const form = page.locator('#binding');
  await page.goto(machines[6].path);
  await form.getByLabel('Plan', { exact: true }).selectOption('night');
  await form.getByLabel('rack (required)').waitFor();
  const held = deferred();
  await page.route('**/preview', async (route) => {
    await held.promise;
    await route.continue();
  }, { times: 1 });
  await form.getByLabel('Image', { exact: true }).selectOption({ index: 1 });
  await form.getByLabel('rack (required)').pressSequentially('r7');
  const answered = page.waitForResponse('**/preview');
  held.resolve();
  await answered;
  await page.waitForFunction(() => !document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling'));
  assert.equal(await form.getByLabel('rack (required)').inputValue(), 'r7');
});

test('machine: what overwrites a disk is shown first', async () => {
  const machine = machines[9];
  await page.goto(machine.path);
  const form = page.locator('#binding');
  await form.getByLabel('Plan', { exact: true }).selectOption('bty-flash-once');
  await form.getByLabel('Image', { exact: true }).selectOption({ index: 1 });
  await form.getByLabel('Target disk').selectOption(machine.serial);
  await submit(form, 'Save');
  const danger = page.locator('.danger');
  await danger.waitFor();
  const text = await danger.innerText();
  for (const word of [machine.mac, 'Fast 480', machine.serial, '480', 'next network boot', 'lost']) {
    assert.ok(text.includes(word), `${word} is shown: ${text}`);
  }
  assert.equal((await machine.shown()).boot_mode, 'ipxe-exit', 'nothing is saved yet');
  await danger.getByRole('link', { name: 'Cancel' }).click();
  await danger.waitFor({ state: 'detached' });
  assert.equal((await machine.shown()).boot_mode, 'ipxe-exit', 'and it was left');
});

test('machine: a confirmation is for what was shown', async () => {
  const machine = machines[14];
  await page.goto(machine.path);
  const csrf = await page.locator('#binding input[name=csrf]').inputValue();
  const fields = { csrf, boot_mode: 'bty-flash-once', bty_image_ref: (await server.api('GET', '/images'))[0].ref, target_disk_serial: machine.serial, confirmed: 'x' };
  const body = new URLSearchParams(fields);
  const cookie = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join('; ');
  const answer = await fetch(server.base + machine.path, { method: 'POST', headers: { cookie }, body, redirect: 'manual' });
  assert.match(await answer.text(), /This overwrites a disk/);
  assert.equal((await machine.shown()).boot_mode, 'ipxe-exit');
});

test('machine: flash again, inventory, delete', async () => {
  const machine = machines[3];
  await page.goto(machine.path);
  await press(page, 'Flash again…');
  await page.locator('.danger').getByRole('button').click();
  await told(page, 'is saved');
  await page.locator('#state').getByText('Waiting for boot: flash').waitFor();
  await press(page, 'Take the inventory at the next boot');
  await told(page, 'bty-inventory');
  await page.locator('#state').getByText('Waiting for boot: inventory').waitFor();
  await confirm(page.locator('#state'), 'Delete');
  await told(page, `${machine.mac} is deleted`);
  assert.equal((await server.request('GET', `/machines/${machine.mac}`)).status, 404);
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  assert.equal((await machine.shown()).known_disks.length, 2);
  // the second deletion is refused; without scripts, because otherwise the page would have updated
  // itself
  const plain = await operator(browser, server, { javaScriptEnabled: false });
  await plain.goto(machine.path);
  await server.api('DELETE', `/machines/${machine.mac}`);
  await confirm(plain.locator('#state'), 'Delete');
  await refused(plain, 'does not exist');
  await plain.context().close();
});

const SOURCE = '//! Boot the disk.\nfn boot(m) { boot_disk() }\n';
const source = () => page.getByLabel('Script');

test('plans: a new one, what is wrong at its line, a revision, the way back', async () => {
  await page.goto('/ui/plans');
  await page.getByRole('link', { name: 'New plan' }).click();
  await page.getByLabel('Name').fill('mine');
  await source().fill('fn boot(m) {\n  boot_disk(\n}\n');
  await page.locator('#problems .problems li').first().waitFor();
  await page.locator('#gutter .wrong').first().waitFor();
  await press(page, 'Save');
  await refused(page, '');
  await page.locator('#problems .problems button').first().click();
  assert.equal(await source().evaluate((text) => document.activeElement === text), true, 'it leads to the line');
  await source().fill(SOURCE);
  await page.getByText('No problems found').waitFor();
  await page.getByLabel('Note').fill('begun');
  await press(page, 'Save');
  await told(page, 'mine is saved as revision 1');
  await page.getByRole('link', { name: 'Edit' }).click();
  await source().fill(`${SOURCE}// more\n`);
  await press(page, 'Simulate for the fleet');
  await page.getByText('Machines simulated').waitFor();
  assert.equal(await source().inputValue(), `${SOURCE}// more\n`);
  await press(page, 'Save');
  await told(page, 'revision 2');
  await page.getByRole('link', { name: 'Show changes since' }).click();
  await page.locator('.diff .added').filter({ hasText: '// more' }).waitFor();
  await confirm(page.locator('tr').filter({ hasText: 'begun' }), 'Roll back to this');
  await told(page, 'mine is rolled back to revision 1');
  assert.equal((await server.api('GET', '/plans/mine')).source, SOURCE);
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  assert.equal((await server.api('GET', '/plans/mine')).source, `${SOURCE}// more\n`);
});

test('plans: refused names, taken names, and a second editor', async () => {
  await server.api('PUT', '/plans/both', { source: SOURCE });
  await page.goto('/ui/plans/new');
  await unchecked(page.locator('form.editor'));
  await source().fill(SOURCE);
  await page.getByLabel('Name').fill('No Name!');
  await press(page, 'Save');
  await refused(page, 'name');
  await page.getByLabel('Name').fill('both');
  await press(page, 'Save');
  await refused(page, '');
  await page.goto('/ui/plans/both/edit');
  await server.api('PUT', '/plans/both', { source: `${SOURCE}// somebody else\n` });
  await source().fill(`${SOURCE}// me\n`);
  await press(page, 'Save');
  await refused(page, '');
  assert.equal(await source().inputValue(), `${SOURCE}// me\n`, 'what was typed is still there');
  assert.match((await server.api('GET', '/plans/both')).source, /somebody else/);
});

test('plans: delete', async () => {
  await page.goto('/ui/plans/night');
  await machines[19].bind({ boot_mode: 'night', bty_image_ref: (await server.api('GET', '/images'))[0].ref, target_disk_serial: 'S', params: { rack: 'a' } });
  await confirm(page.getByRole('main'), 'Delete');
  await refused(page, '');
  await machines[19].bind({ boot_mode: 'ipxe-exit' });
  await confirm(page.getByRole('main'), 'Delete');
  await told(page, 'night is deleted');
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  assert.equal((await server.api('GET', '/plans/night')).name, 'night');
});

test('images: add, check, cache, delete', async () => {
  await page.goto('/ui/images');
  const add = card(page, 'Add an image');
  await add.getByLabel('Address', { exact: true }).fill(`${files.base}/none.img`);
  await press(add, 'Add');
  await refused(page, '404');
  await add.getByLabel('Address', { exact: true }).fill(`${files.base}/small.img`);
  await add.getByLabel('Name').fill('small');
  await add.getByLabel('Digest file').fill(`${files.base}/small.img.sha256`);
  await add.getByLabel('Description').fill('Nearly nothing');
  await press(add, 'Add');
  await told(page, 'small is in the catalog');
  const row = page.locator('#list tbody tr').filter({ hasText: 'Nearly nothing' });
  await row.getByText('4.0 KiB').waitFor();
  await press(row, 'Check');
  await told(page, 'small is available');
  await press(row, 'Cache');
  await told(page, 'cache host fetches: 1');
  await row.getByText('cached', { exact: true }).waitFor();
  await confirm(row, 'Delete');
  await told(page, 'is deleted');
  await row.waitFor({ state: 'detached' });
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  await row.waitFor();
  await page.getByRole('searchbox', { name: 'Search' }).fill('nearly');
  await page.waitForFunction(() => document.querySelectorAll('#list tbody tr').length === 1);
});

test('images: import and upload', async () => {
  const toml = (name) => `version = 1\n[[images]]\nname = "${name}"\nsrc = "${files.base}/${name}.img"\n`;
  writeFileSync(join(server.state, 'more.toml'), toml('other'));
  await page.goto('/ui/images');
  const importing = card(page, 'Import a catalog');
  await importing.getByLabel('Address or path on the server').fill('/no/such/catalog.toml');
  await press(importing, 'Import');
  await refused(page, 'catalog.toml');
  await importing.getByLabel('Address or path on the server').fill(join(server.state, 'more.toml'));
  await press(importing, 'Import');
  await told(page, '1 imported');
  const upload = async (text) => {
    await importing.getByLabel('Catalog file').setInputFiles({ name: 'catalog.toml', mimeType: 'application/toml', buffer: Buffer.from(text) });
    await press(importing, 'Upload');
  };
  await upload('this is [no TOML');
  await refused(page, '');
  await upload(toml('uploaded'));
  await told(page, '1 imported');
  await page.locator('#list').getByText('uploaded', { exact: true }).waitFor();
  await press(page.getByRole('main'), 'Refresh digests');
  await told(page, 'none has another digest');
  await press(page.getByRole('main'), 'Check all');
  await refused(page, 'different from the catalog');
});

test('netboot: addresses, probes, digests, another version', async () => {
  const name = (version, part) => `bty-netboot-pc-x86_64-v${version}.${part}`;
  const put = (version, part, text) => server.request('PUT', `/boot/${name(version, part)}`, text);
  await page.goto('/ui/netboot');
  await page.locator('#probe-results').waitFor();
  await page.getByLabel('Machines reach this server at').selectOption({ index: 0 });
  await press(page, 'Show');
  await page.locator('#dhcp code').filter({ hasText: server.base }).first().waitFor();
  await page.locator('#dhcp').getByRole('button', { name: 'Copy' }).first().click();
  await page.locator('#dhcp').getByRole('button', { name: 'Copied' }).first().waitFor();
  await press(page, 'Verify digests');
  await refused(page, 'is not installed');
  let sums = '';
  for (const part of ['vmlinuz', 'initrd', 'squashfs']) {
    assert.ok((await put('9.9', part, part)).ok);
    sums += `${createHash('sha256').update(part).digest('hex')}  ${name('9.9', part)}\n`;
  }
  assert.ok((await put('9.9', 'sha256', sums)).ok);
  await press(page, 'Boot this version');
  await told(page, 'Machines boot version 9.9 from now on');
  await press(page, 'Verify digests');
  await told(page, 'match their digests');
  await press(page, 'Fetch');
  await told(page, 'is being fetched');
  await page.locator('#artifacts').getByText('failed').waitFor();
  await unchecked(page.locator('#artifacts form').filter({ has: page.getByLabel('Release') }));
  await page.getByLabel('Release').fill('no tag/../');
  await press(page, 'Fetch');
  await refused(page, '');
});

test('events: search, pivot, acknowledge', async () => {
  await page.goto('/ui/events');
  await page.getByRole('link', { name: 'Unacknowledged failures' }).click();
  await page.waitForURL('**ack*');
  const rows = page.locator('#log tbody tr');
  const badge = page.getByRole('navigation', { name: 'Pages' }).locator('.badge.alarm');
  const before = Number(await badge.evaluate((badge) => badge.firstChild.textContent));
  assert.ok(before >= 8);
  await press(page, 'Acknowledge');
  await refused(page, 'select at least one event');
  await rows.nth(0).getByRole('checkbox').check();
  await rows.nth(1).getByRole('checkbox').check();
  await press(page, 'Acknowledge');
  await told(page, 'Events acknowledged: 2');
  assert.equal(Number(await badge.evaluate((badge) => badge.firstChild.textContent)), before - 2);
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  assert.equal(Number(await badge.evaluate((badge) => badge.firstChild.textContent)), before);
  await page.getByLabel('all on this page').check();
  assert.equal(await rows.getByRole('checkbox', { checked: true }).count(), await rows.count());
  await press(page, `Acknowledge all ${before} failures`);
  await told(page, `Events acknowledged: ${before}`);
  assert.equal(await badge.count(), 0);
  await page.goto('/ui/events?q=machine.flash_failed');
  await rows.first().getByRole('checkbox').check();
  await press(page, 'Unacknowledge');
  await told(page, 'no longer acknowledged');
  assert.equal(await badge.count(), 1);
  // a search for the MAC address shows all events of the machine
  const mac = await rows.first().locator('.mac').innerText();
  await page.getByRole('searchbox', { name: 'Search' }).fill(mac);
  await page.waitForURL('**q=02*');
  await page.waitForFunction((mac) => [...document.querySelectorAll('#log .mac')].every((link) => link.textContent === mac), mac);
  await rows.first().getByRole('link', { name: 'operator' }).or(page.locator('#log').getByRole('link', { name: 'pxe-client' })).first().click();
  await page.waitForURL('**q=actor*');
});

test('backups: make, download, schedule, delete', async () => {
  await page.goto('/ui/backups');
  await press(page, 'Back up now');
  await told(page, 'was requested');
  const row = page.locator('#list tbody tr').first();
  await row.waitFor();
  const waiting = page.waitForEvent('download');
  await row.getByRole('link', { name: 'Download' }).click();
  assert.match((await waiting).suggestedFilename(), /^bty-.*\.json$/);
  const schedule = card(page, 'Schedule');
  await schedule.getByLabel('Interval').selectOption('daily');
  await schedule.getByLabel('Backups to keep').fill('3');
  await press(schedule, 'Save');
  await told(page, 'The schedule is saved');
  await unchecked(schedule.locator('form'));
  await schedule.getByLabel('Backups to keep').fill('0');
  await press(schedule, 'Save');
  await refused(page, 'not changed');
  assert.equal(await schedule.getByLabel('Backups to keep').inputValue(), '3');
  const count = await page.locator('#list tbody tr').count();
  await confirm(row, 'Delete');
  await told(page, 'is deleted');
  await page.waitForFunction((count) => document.querySelectorAll('#list tbody tr').length === count - 1, count);
});

test('settings: in place, with their source', async () => {
  await page.goto('/ui/settings');
  const display = card(page, 'Display');
  await display.getByLabel('display.timezone').fill('Mars/Olympus');
  await press(display, 'Save');
  await refused(page, 'must be a time zone');
  await display.getByLabel('display.timezone').fill('Asia/Tokyo');
  await press(display, 'Save');
  await told(page, 'The settings are saved');
  await display.getByText('Changed').waitFor();
  await page.goto('/ui/events');
  await page.locator('#log time').first().getByText('JST').waitFor();
  await page.goBack();
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  assert.equal(await display.getByLabel('display.timezone').inputValue(), 'UTC');
  const password = page.getByRole('row').filter({ hasText: 'admin.password' });
  await password.getByText('environment').waitFor();
  assert.ok(!(await page.content()).includes(PASSWORD), 'secrets are not shown');
});

test('account: a hash, a token, sessions', async () => {
  await page.goto('/ui/account');
  const password = card(page, 'Password');
  const fill = async (now, next, again) => {
    await password.getByLabel('Current password').fill(now);
    await password.getByLabel('New password').fill(next);
    await password.getByLabel('Repeat').fill(again);
    await press(password, 'Generate hash');
  };
  await fill('wrong', 'new password', 'new password');
  await refused(page, 'current password is wrong');
  await fill(PASSWORD, 'new password', 'other password');
  await refused(page, 'do not match');
  await fill(PASSWORD, 'new password', 'new password');
  await told(page, 'admin.password');
  assert.match(await page.locator('#secret').innerText(), /^\$argon2id\$/);
  const token = card(page, 'New token');
  await token.getByLabel('Name').fill('ci');
  for (const box of await token.getByRole('checkbox').all()) await box.uncheck();
  await press(token, 'Create token');
  await refused(page, '');
  await token.getByLabel('Name').fill('ci');
  await token.getByLabel('machines').check();
  await token.getByLabel('Lifetime in days').fill('30');
  await press(token, 'Create token');
  await told(page, 'Token ci is created');
  const secret = await page.locator('#secret').innerText();
  const use = () => fetch(`${server.base}/machines`, { headers: { authorization: `Bearer ${secret}` } });
  assert.notEqual((await use()).status, 401);
  await page.goto('/ui/account');
  assert.ok(!(await page.content()).includes(secret), 'it is shown once');
  const row = page.getByRole('row').filter({ hasText: 'ci' }).filter({ hasText: 'machines' });
  await confirm(row, 'Revoke');
  await told(page, 'is revoked');
  assert.equal((await use()).status, 401);
  const second = await operator(browser, server);
  await page.reload();
  const own = page.getByRole('row').filter({ hasText: 'this session' });
  assert.equal(await own.getByRole('button', { name: 'End' }).count(), 0);
  // end all other sessions, including the second one
  const others = page.getByRole('row').filter({ has: page.getByRole('button', { name: 'End', exact: true }) });
  for (let left = await others.count(); left > 0; left -= 1) {
    await press(others.first(), 'End');
    await told(page, 'Sessions ended');
    await page.waitForFunction((left) => document.querySelectorAll('button[value=end]').length === left - 1, left);
  }
  await second.goto('/ui/machines');
  await second.waitForURL('**/ui/login');
  await second.context().close();
  await server.logIn();
});

test('cache: fetch, pin, delete, forget', async () => {
  await page.goto('/ui/cache');
  const fetchForm = page.locator('form').filter({ has: page.getByRole('button', { name: 'Fetch', exact: true }) });
  await fetchForm.getByLabel('Address').fill('no address');
  await press(fetchForm, 'Fetch');
  await refused(page, '');
  await fetchForm.getByLabel('Address').fill(`${files.base}/other.img`);
  await press(fetchForm, 'Fetch');
  await told(page, 'The object is being fetched');
  const row = page.locator('#objects tr').filter({ hasText: 'other.img' }).filter({ has: page.getByRole('button', { name: 'Pin', exact: true }) });
  await row.waitFor();
  await press(row, 'Pin');
  await told(page, 'The object is pinned');
  const pinned = page.locator('#objects tr').filter({ hasText: 'other.img' });
  await press(pinned, 'Unpin');
  await told(page, 'no longer pinned');
  // open the confirmation, if there is one
  const summary = pinned.locator('summary');
  if (await summary.count()) await summary.first().click();
  await press(pinned, 'Delete');
  await told(page, 'The object is deleted');
  await pinned.waitFor({ state: 'detached' });
  await fetch(`${server.base}/blob?url=${encodeURIComponent(`${files.base}/none.img`)}`);
  await page.reload();
  if (await page.getByRole('heading', { name: 'Misses' }).count()) {
    await press(page, 'Clear misses');
    await told(page, 'The list of misses is cleared');
  }
});

test('without scripts: a machine is bound, shown and confirmed', async () => {
  const plain = await operator(browser, server, { javaScriptEnabled: false });
  const machine = machines[24];
  await plain.goto(machine.path);
  const form = plain.locator('#binding');
  await form.getByLabel('Plan', { exact: true }).selectOption('bty-flash-once');
  await form.getByLabel('Image', { exact: true }).selectOption({ index: 1 });
  await form.getByLabel('Target disk').selectOption(machine.second);
  await submit(form, 'Preview');
  await plain.locator('#next li').first().waitFor();
  await press(plain.locator('#binding'), 'Save');
  await plain.locator('.danger').getByRole('button').click();
  await told(plain, 'is saved');
  assert.equal((await machine.shown()).target_disk_serial, machine.second);
  await plain.context().close();
});

test('looking at an unknown machine adds nothing', async () => {
  const nobody = new Machine(server, 0xaaaa);
  await page.goto(nobody.path);
  await page.getByText('This machine is new').waitFor();
  assert.equal((await server.request('GET', `/machines/${nobody.mac}`)).status, 404);
});
