// The documentation at /docs/: no violation of the content policy, search without a network, a dark
// theme, and no request to other hosts.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { accessible, each, faultless, fits } from './lib/checks.mjs';
import { openBrowser, operator } from './lib/browser.mjs';
import { Server } from './lib/server.mjs';

const SITE = process.env.BTY_SITE ?? new URL('../../target/site', import.meta.url).pathname;
const PAGES = ['', 'tutorials/first-rack.html', 'how-to/plans.html', 'reference/api.html', 'explanation/boot-cycles.html', 'glossary.html'];

let browser, server;

before(async () => {
  browser = await openBrowser();
  server = await Server.start({ env: { BTY_PATHS_SITE_DIR: SITE } });
});

after(async () => {
  await browser?.close();
  await server?.end();
});

// Opens a page without logging in.
async function reader(options) {
  const page = await operator(browser, server, { logIn: false, ...options });
  page.elsewhere = [];
  page.on('request', (request) => request.url().startsWith(server.base) || request.url().startsWith('data:') || page.elsewhere.push(request.url()));
  return page;
}

test('every door opens, and nothing is loaded from elsewhere', async () => {
  const page = await reader();
  for (const path of PAGES) {
    const answer = await page.goto(`/docs/${path}`, { waitUntil: 'load' });
    assert.equal(answer.status(), 200, path);
    assert.equal(await page.locator('h1').first().isVisible(), true, path);
    for (const image of await page.locator('article img').all()) {
      assert.ok(await image.evaluate((i) => i.decode().then(() => i.naturalWidth > 0)), `${path}: ${await image.getAttribute('src')}`);
    }
    assert.equal(await page.locator('footer').getByRole('link', { name: 'Glossary' }).count(), 1, path);
    faultless(page, path);
  }
  assert.deepEqual(page.elsewhere, []);
  await page.context().close();
});

test('the search finds a page', async () => {
  const page = await reader();
  const search = page.getByRole('textbox', { name: 'Search' });
  const found = page.locator('.md-search-result__link').first();
  const isFound = (timeout) => found.waitFor({ timeout }).then(() => true, () => false);
  await page.goto('/docs/');
  // What is typed before the page listens is not searched for, so it is typed again. The page listens
  // to keys: text that is filled in without them counts only if it is there when the field is entered.
  for (let tries = 0; tries < 12; tries += 1) {
    await search.fill('');
    await search.pressSequentially('Secure Boot');
    if (await isFound(5000)) break;
  }
  assert.match(await found.getAttribute('href'), /secure-boot\.html/);
  faultless(page, 'search');
  await page.context().close();
});

test('light and dark follow the system, pictures too', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await reader({ colorScheme });
    await page.goto('/docs/');
    const scheme = await page.locator('body').getAttribute('data-md-color-scheme');
    assert.equal(scheme, colorScheme === 'dark' ? 'slate' : 'default');
    faultless(page, colorScheme);
    await page.context().close();
  }
});

test('the doors are accessible in both themes', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await reader({ colorScheme });
    await each(PAGES, async (path) => {
      await page.goto(`/docs/${path}`);
      await accessible(page, `${path} (${colorScheme})`);
    });
    await page.context().close();
  }
});

test('every page fits a phone, and the keyboard can scroll its tables', async () => {
  const page = await reader({ viewport: { width: 360, height: 740 } });
  const pages = readdirSync(SITE, { recursive: true }).filter((name) => name.endsWith('.html') && !name.startsWith('files/'));
  assert.ok(pages.length > 40, `${pages.length} pages`);
  await each(pages, async (path) => {
    await page.goto(`/docs/${path}`);
    await fits(page, path);
    await accessible(page, path, { runOnly: ['scrollable-region-focusable'] });
  });
  faultless(page, 'phone');
  await page.context().close();
});

test('the pages of the server lead to it, and it leaves the API where it is', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/dashboard');
  await page.getByRole('link', { name: 'Documentation' }).click();
  await page.waitForURL('**/docs/');
  await page.goto('/docs/api');
  assert.equal(await page.getByRole('heading', { level: 1 }).first().innerText(), 'API');
  faultless(page, 'pages');
  await page.context().close();
});
