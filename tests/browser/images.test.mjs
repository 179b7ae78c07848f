// Images as files: uploaded with scripts, with an interruption, and without scripts; copied to the
// folder on the server.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { accessible, faultless, picture } from './lib/checks.mjs';
import { OFFLINE, openBrowser, operator, REFUSED } from './lib/browser.mjs';
import { card, confirm, press, refused, told } from './lib/form.mjs';
import { Server } from './lib/server.mjs';
import { until } from './lib/wait.mjs';

let browser, server;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

// The image of a disk with one partition. Its content depends on `seed`.
function disk(bytes, seed) {
  const image = Buffer.alloc(bytes, seed);
  image.fill(0, 440, 512);
  image[446 + 4] = 0x83;
  image[446 + 8] = 1;
  image[446 + 12] = 7;
  image[510] = 0x55;
  image[511] = 0xaa;
  return image;
}

const file = (name, buffer) => ({ name, mimeType: 'application/octet-stream', buffer });
const row = (page, name) => page.locator('#list tbody tr').filter({ has: page.locator('.name', { hasText: name }) });

async function images(options) {
  const page = await operator(browser, server, options);
  await page.goto('/ui/images');
  return [page, card(page, 'Upload an image')];
}

async function finish(page, what) {
  faultless(page, what);
  await page.context().close();
}

test('a large image is uploaded with its progress, and appears in the list', async () => {
  const [page, upload] = await images({ allow: [REFUSED] });
  await upload.getByLabel('Description').fill('From my own disk');
  await upload.getByLabel('Architecture').selectOption('arm64');
  await upload.getByLabel('Image file').setInputFiles(file('large.img', disk(20 << 20, 1)));
  const bar = upload.getByRole('progressbar');
  await press(upload, 'Upload image');
  await bar.waitFor();
  await upload.getByRole('status').filter({ hasText: 'large.img is in the catalog' }).waitFor();
  assert.equal(await bar.isVisible(), false);
  await row(page, 'large.img').getByText('20.0 MiB').waitFor();
  await row(page, 'large.img').getByText('arm64').waitFor();
  await row(page, 'large.img').getByText('From my own disk').waitFor();
  await upload.getByLabel('Image file').setInputFiles(file('photo.img', Buffer.alloc(5 << 20, 7)));
  await press(upload, 'Upload image');
  await upload.locator('.error').filter({ hasText: 'photo.img is not the image of a disk' }).waitFor();
  await finish(page, 'upload');
});

test('an upload continues when the server is back', async () => {
  const [page, upload] = await images({ allow: [OFFLINE, REFUSED] });
  let requests = 0;
  await page.route('**/uploads/*', async (route) => {
    if (route.request().method() !== 'PATCH') return route.continue();
    requests += 1;
    if (requests !== 2) return route.continue();
    await server.stop();
    await server.launch();
    return route.abort();
  });
  const image = disk(20 << 20, 2);
  await upload.getByLabel('Image file').setInputFiles(file('resumed.img', image));
  await press(upload, 'Upload image');
  await upload.getByRole('status').filter({ hasText: 'resumed.img is in the catalog' }).waitFor();
  assert.equal(requests, 4, 'three parts, of which one was sent twice');
  const entry = (await server.api('GET', '/images')).find((known) => known.name === 'resumed.img');
  const kept = Buffer.from(await (await fetch(entry.url)).arrayBuffer());
  assert.ok(kept.equals(image));
  await finish(page, 'resume');
});

test('an upload that was closed continues when the file is chosen again', async () => {
  const [page, upload] = await images({ allow: [OFFLINE, REFUSED] });
  const path = join(server.state, 'chosen.img');
  writeFileSync(path, disk(20 << 20, 3));
  const sent = [];
  await page.route('**/uploads/*', async (route) => {
    const request = route.request();
    if (request.method() === 'PATCH') sent.push(await request.headerValue('upload-offset'));
    // the second part never leaves the page
    if (sent.length === 2) return;
    await route.continue();
  });
  await upload.getByLabel('Image file').setInputFiles(path);
  await press(upload, 'Upload image');
  await until('the second part is sent', () => sent.length === 2);
  const later = await page.context().newPage();
  await page.close();
  later.on('request', (request) => request.method() === 'PATCH' && sent.push(request.headers()['upload-offset']));
  await later.goto('/ui/images');
  const again = card(later, 'Upload an image');
  await again.getByLabel('Image file').setInputFiles(path);
  await press(again, 'Upload image');
  await again.getByRole('status').filter({ hasText: 'chosen.img is in the catalog' }).waitFor();
  assert.equal(sent.filter((offset) => offset === '0').length, 1, `the first part is sent once: ${sent}`);
  await later.context().close();
});

test('without scripts, the form uploads an image too', async () => {
  const [page, upload] = await images({ javaScriptEnabled: false });
  await upload.getByLabel('Name').fill('plain');
  await upload.getByLabel('Image file').setInputFiles(file('plain.img', disk(5 << 20, 4)));
  await press(upload, 'Upload image');
  await told(page, 'plain is in the catalog');
  await page.locator('summary[aria-label="Actions for plain"]').click();
  await press(row(page, 'plain'), 'Check');
  await told(page, 'plain is available');
  await upload.getByLabel('Image file').setInputFiles(file('photo.img', Buffer.alloc(5 << 20, 7)));
  await press(upload, 'Upload image');
  await refused(page, 'is not the image of a disk');
  await page.context().close();
});

test('what is copied to the folder is offered, and what is deleted stays there', async () => {
  writeFileSync(join(server.state, 'images', 'copied.img'), disk(1 << 20, 5));
  const [page] = await images({ allow: [REFUSED] });
  const folder = card(page, 'From the folder on the server');
  const item = folder.getByRole('listitem').filter({ hasText: 'copied.img' });
  await press(item, 'Add');
  await told(page, 'copied.img is in the catalog');
  await item.waitFor({ state: 'detached' });
  await page.getByLabel('Actions for copied.img').click();
  await picture(page, 'images', 'menu');
  await accessible(page, 'an open menu');
  await page.getByLabel('Actions for copied.img').focus();
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('details.menu[open]').count(), 0);
  // axe leaves style attributes, which the policy forbids to copy
  await page.reload();
  await page.getByLabel('Actions for copied.img').click();
  await confirm(row(page, 'copied.img'), 'Delete');
  await told(page, 'is deleted');
  await item.waitFor();
  await press(page, 'Undo');
  await told(page, 'The change is undone');
  await item.waitFor({ state: 'detached' });
  await page.getByLabel('Actions for copied.img').click();
  await confirm(row(page, 'copied.img'), 'Delete');
  await told(page, 'is deleted');
  await confirm(item, 'Delete');
  await told(page, 'The file copied.img is deleted');
  await item.waitFor({ state: 'detached' });
  await finish(page, 'folder');
});
