// A server below a path: every link, form, script, redirect, event stream, log-in and log-out stays
// below it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { each, faultless } from './lib/checks.mjs';
import { openBrowser, operator } from './lib/browser.mjs';
import { press, told } from './lib/form.mjs';
import { PAGES } from './lib/pages.mjs';
import { fleet } from './lib/seeds.mjs';
import { PASSWORD, Server } from './lib/server.mjs';

const PATH = '/tools/bty';

let browser, server;

before(async () => {
  browser = await openBrowser();
  server = await Server.withCache({ path: PATH });
  await fleet(server);
});

after(async () => {
  await browser?.close();
  await server?.end();
});

const isBelow = (url) => url.startsWith('data:') || url === server.base + PATH || url.startsWith(`${server.base}${PATH}/`);

// A page that records each request that leaves the path.
async function visitor() {
  const page = await operator(browser, server, { logIn: false });
  page.strays = [];
  page.on('request', (request) => isBelow(request.url()) || page.strays.push(`${request.method()} ${request.url()}`));
  return page;
}

async function logIn(page) {
  await page.goto(`${PATH}/`);
  await page.waitForURL(`**${PATH}/ui/login`);
  await page.getByLabel('Password').fill(PASSWORD);
  await press(page, 'Log in');
  await page.waitForURL(`**${PATH}/ui/dashboard`);
}

async function finish(page, what) {
  assert.deepEqual(page.strays, [], 'nothing is requested beside the path');
  faultless(page, what);
  await page.context().close();
}

// All addresses of this server on a page.
const ADDRESSES = (origin) => {
  const names = ['href', 'src', 'action', 'formaction', 'data-hx-get', 'data-hx-post', 'data-follow'];
  const of = (name) => [...document.querySelectorAll(`[${name}]`)].map((element) => new URL(element.getAttribute(name), document.baseURI).href);
  return names.flatMap(of).filter((url) => url.startsWith(origin));
};

test('log-in and log-out, and what a browser is sent to without a session', async () => {
  const page = await visitor();
  await logIn(page);
  const cookies = await page.context().cookies();
  assert.deepEqual(cookies.map(({ path }) => path), [PATH], 'other programs of this host do not get the session');
  await press(page, 'Log out');
  await page.waitForURL(`**${PATH}/ui/login`);
  assert.deepEqual(await page.context().cookies(), []);
  await page.goto(`${PATH}/ui/machines`);
  await page.waitForURL(`**${PATH}/ui/login`);
  await finish(page, 'log-in');
});

test('every address on every page', async () => {
  const page = await visitor();
  await logIn(page);
  await each(PAGES, async ([name, path]) => {
    const answer = await page.goto(PATH + path, { waitUntil: 'load' });
    assert.equal(answer.status(), 200, name);
    const all = await page.evaluate(ADDRESSES, server.base);
    assert.ok(all.length > 5, `${name}: ${all}`);
    assert.deepEqual(all.filter((url) => !isBelow(url)), [], name);
  });
  await finish(page, 'pages');
});

test('links are followed, forms are sent, and pages follow events', async () => {
  const page = await visitor();
  const live = page.waitForRequest(`**${PATH}/ui/live`);
  await logIn(page);
  await live;
  for (const name of ['Machines', 'Plans', 'Images', 'Netboot', 'Cache', 'Backups', 'Settings', 'Account', 'Dashboard']) {
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name }).click();
    await page.waitForURL(`**${PATH}/ui/${name.toLowerCase()}`);
  }
  await page.goto(`${PATH}/ui/machines`);
  await page.getByLabel('Add by MAC').fill('52-54-00-AA-BB-CC');
  await press(page, 'Add');
  await page.waitForURL(`**${PATH}/ui/machines/52-54-00-aa-bb-cc*`);
  await press(page, 'Save');
  await told(page, 'is saved');
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  // an open page shows what happens meanwhile
  await page.goto(`${PATH}/ui/events`);
  await server.api('POST', '/tokens', { name: 'seen below the path', scopes: ['read'] });
  await page.getByText('seen below the path').first().waitFor();
  await finish(page, 'forms');
});
