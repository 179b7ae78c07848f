// A new operator with only a browser: from an empty server to a machine that is flashed by the
// operator's own plan, and the audit log.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { faultless } from './lib/checks.mjs';
import { enter, openBrowser, operator } from './lib/browser.mjs';
import { card, press, submit, told } from './lib/form.mjs';
import { Machine } from './lib/machine.mjs';
import { origin } from './lib/origin.mjs';
import { liveEnvironment } from './lib/seeds.mjs';
import { Server } from './lib/server.mjs';

let browser, server, files;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
  files = await origin({ 'debian-13.img': 'an image '.repeat(10_000) });
});

after(async () => {
  await browser?.close();
  await server?.end();
  files?.end();
});

const go = async (page, name) => {
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name }).click();
  await page.getByRole('heading', { level: 1, name }).waitFor();
};

// Waits until a step of the list of first steps is marked as done.
const isDone = (page, what) =>
  page.locator('#first li.well').filter({ hasText: what }).waitFor();

test('from an empty server to a flashed machine, and who did what', async () => {
  const page = await operator(browser, server, { logIn: false });
  const machine = new Machine(server, 0x123456);

  await page.goto('/');
  await page.waitForURL('**/ui/login');
  await enter(page);
  const steps = page.locator('#first li');
  assert.ok(await steps.count() >= 4, 'it says what to do first');
  assert.equal(await page.locator('#first li.well').count(), 0);

  // the live environment
  await liveEnvironment(server);
  await isDone(page, 'Fetch the live environment');

  // an image
  await page.locator('#first').getByRole('link', { name: 'Add an image' }).click();
  const add = card(page, 'Add an image');
  await add.getByLabel('Address', { exact: true }).fill(`${files.base}/debian-13.img`);
  await add.getByLabel('Name').fill('debian 13');
  await add.getByLabel('Digest file').fill(`${files.base}/debian-13.img.sha256`);
  await press(add, 'Add');
  await told(page, 'debian 13 is in the catalog');
  await go(page, 'Dashboard');
  await isDone(page, 'Add an image');

  // DHCP, then the machine is switched on
  await page.locator('#first').getByRole('link', { name: 'Set up your DHCP server' }).click();
  await page.locator('#dhcp').getByText('dnsmasq').first().waitFor();
  await go(page, 'Dashboard');
  await machine.boot();
  await isDone(page, 'Set up your DHCP server');
  await isDone(page, 'Switch on the first machine');

  // a new plan: an error is shown at its line, then it is fixed
  await go(page, 'Plans');
  await page.getByRole('link', { name: 'New plan' }).click();
  await page.getByLabel('Name').fill('my-flash');
  const script = page.getByLabel('Script');
  const bundled = await script.inputValue();
  await script.fill(bundled.replace('fn boot(m) {', 'fn boot(m {'));
  await page.locator('#problems li[data-line]').first().waitFor();
  await script.fill(bundled.replace(/^\/\/!.*/, '//! Flash the assigned image once, my way.'));
  await page.getByText('No problems found').waitFor();
  await page.getByLabel('Note').fill('my first plan');
  await press(page, 'Save');
  await told(page, 'my-flash is saved as revision 1');
  await page.getByRole('link', { name: 'Edit', exact: true }).click();
  await script.fill(`${await script.inputValue()}\n// as the rack wants it\n`);
  await press(page, 'Save');
  await told(page, 'my-flash is saved as revision 2');

  // the plan is assigned
  await go(page, 'Machines');
  await page.getByRole('link', { name: machine.mac }).click();
  const form = page.locator('#binding');
  await form.getByLabel('Plan', { exact: true }).selectOption('my-flash');
  await form.getByLabel('Image', { exact: true }).selectOption({ index: 1 });
  await form.getByLabel('Target disk').selectOption(machine.serial);
  await submit(form, 'Save');
  const danger = page.locator('.danger');
  await danger.getByText(machine.serial).first().waitFor();
  await danger.getByText('debian 13').first().waitFor();
  await danger.getByRole('button').click();
  await told(page, 'with the plan my-flash');

  // the machine is switched on again, and flashed
  const plan = await machine.boot();
  assert.match(plan, /plan: my-flash/);
  assert.match(plan, /as the rack wants it/);
  assert.ok(plan.includes(machine.serial) && plan.includes('debian-13.img'), 'the image and the disk that were chosen');
  await machine.progress(40);
  await page.waitForFunction(() => document.querySelector('#state progress')?.value === 40);
  await machine.done();
  await page.locator('#history').getByText('machine.flashed').first().waitFor();
  assert.match(await machine.contact(), /sanboot/, 'from now on it boots its disk');
  await go(page, 'Dashboard');
  await page.locator('#first').waitFor({ state: 'detached' });

  // the audit log
  await go(page, 'Events');
  const event = (kind) => page.locator('#log tbody tr').filter({ hasText: kind });
  await event('plan.created').getByRole('link', { name: 'my-flash' }).first().waitFor();
  await event('plan.created').getByRole('link', { name: 'operator' }).waitFor();
  await event('catalog.entry.added').getByRole('link', { name: 'operator' }).waitFor();
  await event('machine.flashed').getByText(machine.mac).first().waitFor();
  await page.getByRole('searchbox', { name: 'Search' }).fill(`${machine.mac} actor:operator`);
  await page.waitForURL('**actor*');
  const rows = page.locator('#log tbody tr');
  await page.waitForFunction(() => [...document.querySelectorAll('#log tbody tr')].every((row) => row.textContent.includes('operator')));
  assert.ok(await rows.count() >= 1);
  assert.match(await rows.first().innerText(), /boot_mode|my-flash|machine\.(upserted|created)/);
  await rows.first().getByText('127.0.0.1').waitFor();
  faultless(page, 'the journey');
  await page.context().close();
});
