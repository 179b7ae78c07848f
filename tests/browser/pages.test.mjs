// Every page: valid HTML, accessible, without console errors, fits windows of any width in light
// and dark, and is readable without scripts.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessible, each, faultless, fits, NO_COLORS, picture, valid } from './lib/checks.mjs';
import { enter, openBrowser, operator, REFUSED } from './lib/browser.mjs';
import { EMPTY_PAGES, PAGES } from './lib/pages.mjs';
import { fleet } from './lib/seeds.mjs';
import { Server } from './lib/server.mjs';

const WIDTHS = { phone: [360, 740], desk: [1280, 900], wall: [3840, 2160] };
const SCHEMES = ['light', 'dark'];

let browser, full, empty;

before(async () => {
  browser = await openBrowser();
  full = await Server.withCache();
  empty = await Server.withCache({ password: null });
  await fleet(full);
});

after(async () => {
  await browser?.close();
  await full?.end();
  await empty?.end();
});

// Colors do not depend on the width, only the layout does.
async function check(page, what, width, scheme) {
  await fits(page, what);
  if (width === 'desk') await accessible(page, what);
  if (width === 'phone' && scheme === 'light') await accessible(page, what, NO_COLORS);
}

// Opens a page, and checks it in windows of these widths, one after the other.
async function look(page, [name, path], widths, scheme, kind) {
  page.faults.length = 0;
  await resize(page, widths[0]);
  const answer = await page.goto(path);
  assert.equal(answer.status(), 200, name);
  assert.equal(await page.getByRole('heading', { level: 1 }).first().isVisible(), true, name);
  // wait until the scripts of the page have run
  await page.evaluate(() => document.readyState === 'complete' || new Promise((done) => addEventListener('load', done)));
  for (const width of widths) {
    await resize(page, width);
    await check(page, `${name} (${width}, ${scheme}, ${kind})`, width, scheme);
    await picture(page, kind, `${name}-${width}-${scheme}`);
  }
  faultless(page, `${name} (${scheme}, ${kind})`);
}

async function resize(page, width) {
  const [w, h] = WIDTHS[width];
  await page.setViewportSize({ width: w, height: h });
}

async function lookAtAll(server, pages, widths, scheme, kind) {
  const page = await operator(browser, server, { colorScheme: scheme });
  const elsewhere = [];
  page.on('request', (request) => request.url().startsWith(server.base) || elsewhere.push(request.url()));
  await each(pages, (one) => look(page, one, widths, scheme, kind));
  assert.deepEqual(elsewhere, [], 'nothing comes from elsewhere');
  await page.context().close();
}

for (const scheme of SCHEMES) {
  test(`a fleet, ${scheme}, from phone to wall; nothing comes from elsewhere`, () => lookAtAll(full, PAGES, Object.keys(WIDTHS), scheme, 'fleet'));
}
test('nothing yet, phone, dark', () => lookAtAll(empty, EMPTY_PAGES, ['phone'], 'dark', 'empty'));
test('nothing yet, desk, light', () => lookAtAll(empty, EMPTY_PAGES, ['desk'], 'light', 'empty'));

test('the log-in and what is not there', async () => {
  for (const scheme of SCHEMES) {
    const page = await operator(browser, full, { logIn: false, colorScheme: scheme, viewport: { width: 360, height: 740 }, allow: [REFUSED] });
    await page.goto('/ui/login');
    await fits(page, 'login');
    await accessible(page, `login, ${scheme}`);
    await picture(page, 'fleet', `login-phone-${scheme}`);
    await enter(page);
    assert.equal((await page.goto('/ui/plans/no-such-plan')).status(), 404);
    await fits(page, 'error');
    await accessible(page, `error, ${scheme}`);
    assert.equal(await page.getByRole('alert').isVisible(), true, 'it says what is wrong');
    assert.equal(await page.getByRole('navigation', { name: 'Pages' }).isVisible(), true, 'it leads on');
    faultless(page, 'login');
    await page.context().close();
  }
});

const served = async (server, path) => (await server.request('GET', path)).text();

for (const [kind, pages, server] of [['a fleet', PAGES, () => full], ['nothing yet', EMPTY_PAGES, () => empty]]) {
  test(`the HTML is valid: ${kind}`, async () => {
    await each(pages, async ([name, path]) => valid(await served(server(), path), name));
  });
}

test('the HTML is valid: the log-in, an error, the probe', async () => {
  await valid(await (await fetch(`${full.base}/ui/login`)).text(), 'login');
  await valid(await served(full, '/ui/plans/no-such-plan'), 'error');
  // a fragment of a page
  const probe = await served(full, '/ui/netboot/probe');
  await valid(`<!doctype html><html lang="en"><head><title>x</title></head><body>${probe}</body></html>`, 'probe');
});

test('without scripts: log-in, every page, a search', async () => {
  const page = await operator(browser, full, { javaScriptEnabled: false });
  for (const [name, path] of PAGES) {
    assert.equal((await page.goto(path)).status(), 200, name);
    assert.equal(await page.getByRole('heading', { level: 1 }).first().isVisible(), true, name);
    const text = await page.getByRole('main').innerText();
    assert.ok(text.length > 100, `${name} can be read: ${text}`);
  }
  await page.goto('/ui/machines');
  await page.getByRole('searchbox', { name: 'Search' }).fill('02:b7:f0:00:00:03');
  await page.getByRole('button', { name: 'Search' }).click();
  await page.waitForURL('**q=02*');
  assert.equal(await page.locator('#list tbody tr').count(), 1);
  await page.context().close();
});

test('a page that is not for everybody leads to the log-in', async () => {
  for (const [name, path] of PAGES.filter(([name]) => name !== 'docs')) {
    const answer = await fetch(full.base + path, { redirect: 'manual' });
    assert.deepEqual([answer.status, answer.headers.get('location')], [303, '/ui/login'], name);
  }
});
