// Pages update themselves without disturbing a person who is using them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { faultless } from './lib/checks.mjs';
import { OFFLINE, openBrowser, operator } from './lib/browser.mjs';
import { Machine } from './lib/machine.mjs';
import { fleet } from './lib/seeds.mjs';
import { Server } from './lib/server.mjs';

let browser, server, machines, refs;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
  ({ machines, refs } = await fleet(server));
});

after(async () => {
  await browser?.close();
  await server?.end();
});

// Marks a page. A reload removes the mark.
const mark = (page) => page.evaluate(() => (window.isTheSame = true));
const isTheSame = (page) => page.evaluate(() => window.isTheSame === true);

const row = (page, machine) => page.locator(`#m-${machine.hyphens}`);

// Opens a page through its link in the navigation, like an operator.
async function open(name, options) {
  const page = await operator(browser, server, options);
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name }).click();
  await page.getByRole('heading', { level: 1, name }).waitFor();
  await mark(page);
  return page;
}

async function finish(page, what) {
  assert.equal(await isTheSame(page), true, `${what}: the page was not loaded again`);
  faultless(page, what);
  await page.context().close();
}

test('a machine appears while something is typed', async () => {
  const page = await open('Machines');
  const machine = new Machine(server, 0x1001);
  const search = page.getByRole('searchbox', { name: 'Search' });
  await search.click();
  await page.keyboard.type('02:b7:f0:00:1');
  await page.getByText('None of 40 machines matches').waitFor();
  await machine.contact();
  await row(page, machine).waitFor();
  assert.equal(await page.locator('#list tbody tr').count(), 1, 'only what is searched for');
  await page.keyboard.type('0');
  assert.equal(await search.inputValue(), '02:b7:f0:00:10');
  assert.equal(await search.evaluate((field) => document.activeElement === field && field.selectionStart), 14, 'the caret is where it was');
  await page.waitForURL('**q=02%3Ab7%3Af0%3A00%3A10*');
  await finish(page, 'typing');
});

test('a half-typed word stays when machines appear', async () => {
  const page = await open('Machines');
  const field = page.getByLabel('Add by MAC');
  await field.fill('52:54:00');
  await field.evaluate((field) => field.setSelectionRange(2, 2));
  const machine = new Machine(server, 0);
  await machine.contact();
  await row(page, machine).waitFor();
  assert.equal(await field.inputValue(), '52:54:00');
  assert.deepEqual(await field.evaluate((field) => [document.activeElement === field, field.selectionStart]), [true, 2]);
  await finish(page, 'a half-typed word');
});

test('scroll and selection stay when a machine appears', async () => {
  const page = await open('Machines', { viewport: { width: 1280, height: 400 } });
  // the page can scroll only after its style sheet is applied
  await page.waitForFunction(() => (scrollTo({ top: 600, behavior: 'instant' }), scrollY > 100));
  const at = await page.evaluate(() => scrollY);
  await row(page, machines[30]).evaluate((row) => getSelection().selectAllChildren(row.querySelector('.mac')));
  // the new machine is last in the list, so that no row above it moves
  const machine = new Machine(server, 0xfffffe);
  await machine.contact();
  await row(page, machine).waitFor();
  assert.equal(await page.evaluate(() => scrollY), at);
  assert.equal(await page.evaluate(() => String(getSelection())), machines[30].mac);
  await finish(page, 'scroll and selection');
});

test('what is ticked and unfolded stays when events arrive', async () => {
  const page = await open('Events');
  const first = page.locator('#log tbody tr').first();
  const id = await first.getAttribute('id');
  await first.getByRole('checkbox').check();
  await first.locator('summary').click();
  const machine = new Machine(server, 0x1003);
  await machine.contact();
  await page.locator('#log').getByRole('link', { name: machine.mac }).first().waitFor();
  const same = page.locator(`#${id}`);
  assert.equal(await same.getByRole('checkbox').isChecked(), true, 'ticked');
  assert.equal(await same.locator('details').evaluate((details) => details.open), true, 'unfolded');
  const others = await page.locator('#log tbody input:checked').count();
  assert.equal(others, 1, 'and nothing else is ticked');
  await finish(page, 'ticks');
});

test('progress moves on the pages of the machine and of the fleet', async () => {
  const machine = new Machine(server, 0x2001);
  await machine.bind({ boot_mode: 'bty-flash-once', bty_image_ref: refs['debian 13'], target_disk_serial: machine.serial });
  await machine.boot();
  await machine.progress(10);
  const page = await operator(browser, server);
  await page.goto(machine.path);
  await mark(page);
  const bar = page.locator('#state progress');
  await bar.waitFor();
  assert.equal(await bar.getAttribute('value'), '10');
  await page.getByLabel('Labels').evaluate((field) => (field.closest('details').open = true));
  await page.getByLabel('Labels').fill('half typ');
  const moves = async (percent, phase) => {
    await machine.progress(percent, phase);
    await page.waitForFunction((percent) => document.querySelector('#state progress')?.value === percent, percent);
  };
  await moves(40);
  await moves(90);
  await page.locator('#state').getByText(/written [1-9][\d.]* \wi?B\/s/).waitFor();
  await moves(50, 'verify');
  await page.locator('#state').getByText(/verify 50 %/).waitFor();
  assert.equal(await page.getByLabel('Labels').inputValue(), 'half typ');
  assert.equal(await page.getByLabel('Labels').evaluate((field) => document.activeElement === field), true);
  await machine.done();
  await page.locator('#state').getByText('Flashed', { exact: true }).waitFor();
  assert.equal(await bar.count(), 0);
  await page.locator('#history').getByText('machine.flashed').first().waitFor();
  await finish(page, 'progress');
});

test('the dashboard shows what is flashing now', async () => {
  const page = await open('Dashboard');
  const machine = machines[1];
  const bar = page.locator('#busy').getByRole('progressbar', { name: new RegExp(machine.mac) });
  await bar.waitFor();
  await machine.progress(77);
  await page.waitForFunction((mac) => [...document.querySelectorAll('#busy progress')].some((bar) => bar.ariaLabel.includes(mac) && bar.value === 77), machine.mac);
  await machine.done();
  await bar.waitFor({ state: 'detached' });
  await finish(page, 'dashboard');
});

test('a change of a second operator arrives at the first', async () => {
  const first = await operator(browser, server);
  const second = await operator(browser, server);
  const machine = machines[4];
  await first.goto(machine.path);
  await mark(first);
  const list = await open('Machines');
  await second.goto(machine.path);
  await second.getByLabel('Plan', { exact: true }).selectOption('bty-inventory');
  await second.getByRole('button', { name: 'Save' }).click();
  await second.getByRole('status').getByText('is saved').waitFor();
  await first.locator('#state').getByText('Waiting for boot: inventory').waitFor();
  await row(list, machine).getByText('bty-inventory').waitFor();
  await second.getByRole('button', { name: 'Undo' }).click();
  await second.getByText('The change is undone.').waitFor();
  await first.locator('#state').getByText('ipxe-exit').first().waitFor();
  await row(list, machine).getByText('ipxe-exit').waitFor();
  await finish(first, 'first operator');
  await finish(list, 'list of the first operator');
  faultless(second, 'second operator');
  await second.context().close();
});

test('the server goes and comes back', async () => {
  const page = await open('Machines', { allow: [OFFLINE] });
  const notice = page.locator('#offline');
  assert.equal(await notice.innerText(), '');
  await server.stop();
  await notice.getByText('does not answer').waitFor();
  assert.ok(await page.locator('#list tbody tr').count() > 10, 'what was shown is still there');
  await server.launch();
  const machine = new Machine(server, 0x3001);
  await machine.contact();
  await page.waitForFunction(() => document.getElementById('offline').textContent === '');
  await row(page, machine).waitFor();
  await finish(page, 'offline');
});

test('who was logged out elsewhere is told so, and keeps what is typed', async () => {
  const first = await open('Machines');
  await first.getByLabel('Add by MAC').fill('02:b7');
  const second = await operator(browser, server);
  await second.goto('/ui/account');
  await second.getByText('End all sessions').first().click();
  await second.getByRole('button', { name: 'End all sessions' }).click();
  await second.waitForURL('**/ui/login');
  await first.locator('#offline').getByText('no longer logged in').waitFor();
  assert.equal(await first.getByLabel('Add by MAC').inputValue(), '02:b7');
  assert.equal(await isTheSame(first), true);
  await first.reload();
  await first.waitForURL('**/ui/login');
  await first.context().close();
  await second.context().close();
  await server.logIn();
});

test('pages that are swapped in behave as pages', async () => {
  const page = await open('Machines');
  await row(page, machines[0]).getByRole('link', { name: machines[0].mac }).click();
  await page.getByRole('heading', { level: 1, name: machines[0].mac }).waitFor();
  assert.equal(await page.title(), `${machines[0].mac} - bty`);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'readers of screens are told');
  await page.goBack();
  await page.getByRole('heading', { level: 1, name: 'Machines' }).waitFor();
  await page.goForward();
  await page.getByRole('heading', { level: 1, name: machines[0].mac }).waitFor();
  // the page still updates itself
  await machines[0].contact();
  await page.locator('#history').getByText('netboot.pxe.offered').nth(1).waitFor();
  faultless(page, 'swapped in');
  await page.context().close();
});
