// Values from machines, catalogs and people are shown as text: they never run, and never break the
// layout.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessible, each, faultless, fits, picture, valid } from './lib/checks.mjs';
import { openBrowser, operator, REFUSED } from './lib/browser.mjs';
import { Machine } from './lib/machine.mjs';
import { hostile, LONG, MARKUP, TURNED } from './lib/seeds.mjs';
import { Server } from './lib/server.mjs';

let browser, server, pages;

before(async () => {
  browser = await openBrowser();
  server = await Server.withCache();
  const machines = await hostile(server);
  // a hostile URL in the list of misses of the cache host
  await fetch(`${server.base}/blob?url=${encodeURIComponent(`http://127.0.0.1:1/${encodeURI(MARKUP)}`)}`);
  const q = encodeURIComponent(MARKUP);
  pages = [
    ['dashboard', '/ui/dashboard'],
    ['machines', '/ui/machines'],
    ['machines-searched', `/ui/machines?q=${q}&state=${q}&plan=${q}&sort=${q}`],
    ...machines.map((machine, n) => [`machine-${n}`, machine.path]),
    ['plans', '/ui/plans'],
    ...[0, 1, 2].map((n) => [`plan-${n}`, `/ui/plans/evil-${n}?since=1`]),
    ...[0, 1, 2].map((n) => [`plan-edit-${n}`, `/ui/plans/evil-${n}/edit`]),
    ['images', '/ui/images'],
    ['images-searched', `/ui/images?q=${q}`],
    ['events', '/ui/events'],
    ['events-searched', `/ui/events?q=${q}`],
    ['settings', '/ui/settings'],
    ['account', '/ui/account'],
    ['cache', '/ui/cache'],
  ];
});

after(async () => {
  await browser?.close();
  await server?.end();
});

const hacked = (page) => page.evaluate(() => window.hacked ?? null);

// Opens all folded sections, so that their text is checked too.
const unfold = (page) => page.evaluate(() => document.querySelectorAll('details').forEach((one) => (one.open = true)));

// Finds right-to-left text that changes the direction of other text on the same line.
const TURNS_OTHERS = () => {
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  // blocks are isolated by default, inline elements only with `unicode-bidi`
  const isApart = (element) => /isolate|plaintext/.test(getComputedStyle(element).unicodeBidi);
  const isAlone = (element, text) => element.textContent.trim() === text.trim();
  const found = [];
  while (walker.nextNode()) {
    const { nodeValue, parentElement } = walker.currentNode;
    // graphics and code have lines of their own
    const isOther = parentElement.closest('option, textarea, svg, pre, .source, title');
    if (!nodeValue.includes('\u202E') || isOther) continue;
    let around = parentElement;
    while (isAlone(around, nodeValue) && !isApart(around)) around = around.parentElement;
    if (!isAlone(around, nodeValue)) found.push(parentElement.outerHTML.slice(0, 160));
  }
  return found;
};

const WIDTHS = [360, 1280];

async function look(page, [name, path]) {
  page.faults.length = 0;
  await page.setViewportSize({ width: WIDTHS[0], height: 900 });
  assert.equal((await page.goto(path)).status(), 200, name);
  await accessible(page, name);
  await unfold(page);
  assert.equal(await hacked(page), null, `${name} has run a value`);
  assert.equal(await page.locator('img, b[onmouseover], main script').count(), 0, `${name} has elements of a value`);
  assert.deepEqual(await page.evaluate(TURNS_OTHERS), [], `${name} has values that turn other text`);
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    await fits(page, `${name} (${width})`);
    await picture(page, 'hostile', `${name}-${width}`);
  }
  faultless(page, name);
}

test('values are text, right-to-left values turn only themselves, and pages fit and are accessible', async () => {
  const page = await operator(browser, server);
  await each(pages, (one) => look(page, one));
  await page.context().close();
});

test('values are shown as they are', async () => {
  const page = await operator(browser, server);
  const shown = async (path, text) => {
    await page.goto(path);
    await unfold(page);
    const all = await page.getByRole('main').evaluate((main) =>
      main.textContent + [...main.querySelectorAll('input, textarea')].map((field) => field.value).join('\n'));
    assert.ok(all.includes(text), `${path} shows ${text.slice(0, 40)}`);
  };
  for (const [n, text] of [MARKUP, TURNED, LONG].entries()) {
    const machine = `/ui/machines/02-b7-f0-00-00-${(0xe0 + n).toString(16)}`;
    await shown(machine, text);
    await shown('/ui/images', text);
    await shown('/ui/plans', text);
    await shown(`/ui/plans/evil-${n}`, text);
    await shown(`/ui/plans/evil-${n}/edit`, text);
    await shown('/ui/account', text.slice(0, 128));
    await shown('/ui/events', text);
  }
  await page.context().close();
});

test('hostile pages are valid', () =>
  each(pages, async ([name, path]) => valid(await (await server.request('GET', path)).text(), name)));

test('a hostile disk is shown before it is overwritten', async () => {
  for (const n of [0, 1, 2]) {
    const page = await operator(browser, server, { viewport: { width: 360, height: 740 } });
    await page.goto(`/ui/machines/02-b7-f0-00-00-${(0xe0 + n).toString(16)}`);
    await page.getByRole('button', { name: 'Flash again' }).click();
    await page.getByRole('heading', { name: 'This overwrites a disk' }).waitFor();
    const serial = [MARKUP, TURNED, LONG][n].slice(0, 128);
    assert.ok((await page.locator('.danger').innerText()).includes(serial.trim()), 'the serial number is there');
    await fits(page, `confirm ${n}`);
    await picture(page, 'hostile', `confirm-${n}`);
    assert.equal(await hacked(page), null);
    faultless(page, `confirm ${n}`);
    await page.context().close();
  }
});

test('addresses that are markup are refused as text', async () => {
  const page = await operator(browser, server, { allow: [REFUSED] });
  for (const path of [`/ui/machines/${encodeURIComponent(MARKUP)}`, `/ui/plans/${encodeURIComponent(MARKUP)}`, `/ui/plans/new?from=${encodeURIComponent(MARKUP)}`]) {
    const answer = await page.goto(path);
    assert.ok(answer.status() >= 400 && answer.status() < 500, `${path}: ${answer.status()}`);
    assert.equal(await hacked(page), null, path);
    assert.equal(await page.locator('img').count(), 0, path);
  }
  faultless(page, 'refused addresses');
  await page.context().close();
});

test('what a hostile machine says live stays text', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/machines/02-b7-f0-00-00-e0');
  const machine = new Machine(server, 0xe0);
  machine.boots = 10;
  await machine.contact();
  await machine.takeStock([{ path: '/dev/sdz', size_bytes: 1 << 30, model: `live ${MARKUP}`, serial: 'L1', tran: 'usb' }]);
  await page.getByText(`live ${MARKUP}`).first().waitFor({ state: 'attached' });
  assert.equal(await hacked(page), null);
  assert.equal(await page.locator('img').count(), 0);
  faultless(page, 'live');
  await page.context().close();
});
