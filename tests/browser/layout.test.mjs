// Small screens and paper, the dashboard, and addresses that no page has.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessible, faultless, fits, NO_COLORS, picture } from './lib/checks.mjs';
import { openBrowser, operator, REFUSED } from './lib/browser.mjs';
import { card, press } from './lib/form.mjs';
import { Machine } from './lib/machine.mjs';
import { fleet } from './lib/seeds.mjs';
import { Server } from './lib/server.mjs';
import { until } from './lib/wait.mjs';

const PHONE = { width: 390, height: 844 };
const LISTS = ['/ui/machines', '/ui/images', '/ui/events', '/ui/plans', '/ui/settings', '/ui/dashboard'];

let browser, server, machines;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
  ({ machines } = await fleet(server));
  // nobody assigns these
  for (const n of [0x2001, 0x2002]) await new Machine(server, n).boot();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

for (const javaScriptEnabled of [true, false]) {
  test(`on a phone, the navigation is a menu, ${javaScriptEnabled ? 'with' : 'without'} scripts`, async () => {
    const page = await operator(browser, server, { viewport: PHONE, javaScriptEnabled });
    await page.goto('/ui/images');
    const { height } = await page.locator('header').boundingBox();
    assert.ok(height < 72, `the header is ${height} pixels high`);
    const nav = page.getByRole('navigation', { name: 'Pages' });
    assert.equal(await nav.isVisible(), false);
    await page.getByText('Menu: Images').click();
    await nav.getByRole('link', { name: 'Plans', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: 'Plans' }).waitFor();
    await page.locator('.nav-menu summary').click();
    await nav.getByRole('button', { name: 'Log out' }).click();
    await page.waitForURL('**/ui/login');
    await page.context().close();
  });
}

test('on a phone, an image is a card with its name above everything else', async () => {
  const page = await operator(browser, server, { viewport: PHONE });
  await page.goto('/ui/images');
  const row = page.locator('#list tbody tr').filter({ hasText: 'ubuntu' });
  const [name, size] = await Promise.all([row.locator('.name').boundingBox(), row.locator('td[data-name=Size]').boundingBox()]);
  assert.ok(size.y > name.y + name.height - 1, 'the rest is below');
  const { height } = await row.boundingBox();
  assert.ok(height < 140, `a card is ${height} pixels high`);
  await page.context().close();
});

test('a printed list fits the paper, without navigation and forms', async () => {
  const page = await operator(browser, server, { viewport: { width: 703, height: 1000 } });
  await page.emulateMedia({ media: 'print' });
  for (const path of LISTS) {
    await page.goto(path);
    assert.equal(await page.locator('header').isVisible(), false, path);
    assert.equal(await page.locator('main button:visible').count(), 0, path);
    const over = await page.evaluate(() => [...document.querySelectorAll('.wide, body')].map((part) => part.scrollWidth - part.clientWidth));
    assert.ok(Math.max(...over) <= 1, `${path} is ${Math.max(...over)} pixels too wide`);
    await picture(page, 'print', path.replaceAll('/', '-'));
  }
  await page.context().close();
});

test('an address that no page has is a page, and /ui/ leads to the dashboard', async () => {
  const page = await operator(browser, server, { allow: [REFUSED] });
  assert.equal((await page.goto('/ui/nope/deeper')).status(), 404);
  await page.getByRole('alert').filter({ hasText: 'there is no such page' }).waitFor();
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Machines' }).waitFor();
  await accessible(page, 'no such page');
  await page.goto('/ui/');
  await page.waitForURL('**/ui/dashboard');
  const outside = await fetch(`${server.base}/ui/nope`, { redirect: 'manual' });
  assert.deepEqual([outside.status, outside.headers.get('location')], [303, '/ui/login']);
  faultless(page, 'no such page');
  await page.context().close();
});

test('the dashboard begins with what needs a person', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/dashboard');
  const titles = await page.locator('main .card h2').allInnerTexts();
  assert.equal(titles[0], 'Needs you');
  assert.match(titles[1], /^Running: \d+$/);
  const attention = page.locator('#attention');
  assert.equal(await attention.locator('.rows li').count(), 8);
  await attention.getByRole('link', { name: '2 new machines: Assign…' }).click();
  await page.waitForURL('**/ui/machines?state=new');
  await page.locator('#list tbody tr').nth(1).waitFor();
  assert.equal(await page.locator('#list tbody tr').count(), 2, 'as many as the dashboard says');
  faultless(page, 'attention');
  await page.context().close();
});

test('failed log-ins are a matter of security, not failures', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/dashboard');
  assert.equal(await page.getByRole('heading', { name: 'Security' }).count(), 0);
  const failures = await page.locator('#attention').getByText('unacknowledged failures').innerText();
  const body = new URLSearchParams({ password: 'wrong' });
  await fetch(`${server.base}/ui/login`, { method: 'POST', body, redirect: 'manual' });
  await page.locator('#security').getByRole('link', { name: '1 failed log-in' }).waitFor();
  assert.equal(await page.locator('#attention').getByText('unacknowledged failures').innerText(), failures);
  await page.locator('#attention').getByText('unacknowledged failures').click();
  await page.locator('#log tbody tr').first().waitFor();
  assert.equal(await page.locator('#log tbody tr').count(), parseInt(failures, 10), 'as many as the dashboard says');
  await page.goBack();
  await page.locator('#security').getByRole('link', { name: '1 failed log-in' }).click();
  await page.locator('#log tbody tr').first().waitFor();
  assert.equal(await page.locator('#log tbody tr').count(), 1);
  faultless(page, 'security');
  await page.context().close();
});

test('what is well is one line', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/dashboard');
  const well = page.locator('.checks-well');
  assert.equal(await well.getByRole('listitem').first().isVisible(), false);
  assert.equal(await page.locator('#health .ill').first().isVisible(), true, 'what is not well is seen');
  await well.locator('summary').click();
  await well.getByText('Password').waitFor();
  await page.context().close();
});

test('the tiles are one stop of Tab; arrow keys move between them', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/dashboard');
  const stops = page.locator('[data-tiles] svg a[tabindex="0"]');
  assert.equal(await stops.count(), 1);
  await stops.focus();
  const label = () => page.evaluate(() => document.activeElement.getAttribute('aria-label'));
  const first = await label();
  await page.keyboard.press('ArrowRight');
  assert.notEqual(await label(), first);
  assert.equal(await stops.count(), 1);
  await page.keyboard.press('Home');
  assert.equal(await label(), first);
  await page.keyboard.press('End');
  await page.keyboard.press('Enter');
  await page.waitForURL(/\/ui\/machines\/02-b7-f0/);
  await page.context().close();
});

test('settings are found, switched, and saved by group', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/settings');
  await page.getByRole('searchbox', { name: 'Search' }).fill('scheduled');
  await page.waitForFunction(() => document.querySelectorAll('#settings section').length === 1);
  const toggle = page.getByRole('switch', { name: 'Scheduled backups' });
  for (const isOn of [true, false]) {
    await toggle.setChecked(isOn);
    await press(card(page, 'Backups'), 'Save');
    // the notice of the first round is still there in the second
    await until(`the server has ${isOn}`, async () => {
      const settings = await server.api('GET', '/settings');
      return settings.find(({ key }) => key === 'backup.enabled').value === (isOn ? '1' : '0');
    });
    await page.locator('.notice[role=status]').filter({ hasText: 'The settings are saved' }).waitFor();
    assert.equal(await toggle.isChecked(), isOn);
  }
  await page.getByRole('searchbox', { name: 'Search' }).fill('public address');
  await page.getByRole('row').filter({ hasText: 'server.public_url' }).waitFor();
  await page.goto('/ui/settings?q=seconds');
  await page.getByLabel('Silence before a machine is stalled').waitFor();
  await page.getByText('seconds; 0 for no limit').waitFor();
  faultless(page, 'settings');
  await page.context().close();
});

test('pages look as they should at the sizes that people use', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await operator(browser, server, { colorScheme });
    for (const width of [390, 1280]) {
      await page.setViewportSize({ width, height: 844 });
      for (const path of [...LISTS, `/ui/plans/night`, machines[0].path, '/ui/account', '/ui/netboot', '/ui/backups']) {
        await page.goto(path);
        await fits(page, `${path} at ${width}`);
        if (width === 390) await accessible(page, `${path} at ${width}`, NO_COLORS);
        await picture(page, 'layout', `${path.replaceAll('/', '-')}-${width}-${colorScheme}`);
      }
    }
    await page.context().close();
  }
});
