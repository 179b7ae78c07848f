// The most common task without a mouse: assigning a plan that flashes a machine.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { faultless } from './lib/checks.mjs';
import { openBrowser, operator } from './lib/browser.mjs';
import { fleet } from './lib/seeds.mjs';
import { PASSWORD, Server } from './lib/server.mjs';

let browser, server, machine;

before(async () => {
  browser = await openBrowser();
  server = await Server.start();
  const { machines } = await fleet(server);
  machine = machines[4];
});

after(async () => {
  await browser?.close();
  await server?.end();
});

// Maximum number of Tab presses to reach an element.
const STOPS_MAX = 120;

// The focused element, and whether its focus is visible.
const FOCUS = (selector) => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
  const isSeen = (outlineStyle !== 'none' && parseFloat(outlineWidth) > 0) || boxShadow !== 'none';
  const { width, height } = element.getBoundingClientRect();
  return { is: element.matches(selector), isSeen: isSeen && width > 0 && height > 0, what: element.outerHTML.slice(0, 120) };
};

// Presses Tab until `selector` has the focus. The focus must be visible at every stop.
async function tabTo(page, selector) {
  for (let stop = 0; stop < STOPS_MAX; stop += 1) {
    await page.keyboard.press('Tab');
    const { is, isSeen, what } = await page.evaluate(FOCUS, selector);
    // between the end and the start of a page, the focus is in the browser's own controls; a new
    // page focuses its content
    if (!/^<(body|main)/.test(what)) assert.ok(isSeen, `the focus is seen: ${what}`);
    if (is) return;
  }
  assert.fail(`${selector} is not reached by Tab`);
}

const heading = (page, name) => page.getByRole('heading', { level: 1, name }).waitFor();

// Selects `text` in the focused list with the arrow keys.
async function choose(page, text) {
  const chosen = () => page.evaluate(() => document.activeElement.selectedOptions[0].textContent);
  const count = await page.evaluate(() => document.activeElement.options.length);
  await page.keyboard.press('Home');
  for (let i = 0; i < count && !(await chosen()).includes(text); i += 1) await page.keyboard.press('ArrowDown');
  assert.ok((await chosen()).includes(text), `${text} can be chosen`);
}

test('bty-flash-once is assigned to a machine by keyboard alone', async () => {
  const page = await operator(browser, server, { logIn: false });
  await page.goto('/ui/login');
  // the browser focuses the field when it draws the page, after the load event
  await page.waitForFunction(() => document.activeElement.id === 'password');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await heading(page, 'Dashboard');

  await tabTo(page, 'nav a[href="/ui/machines"]');
  await page.keyboard.press('Enter');
  await heading(page, 'Machines');

  await tabTo(page, '#q');
  await page.keyboard.type(machine.mac);
  await page.waitForFunction(() => document.querySelectorAll('#list tbody tr').length === 1);
  await tabTo(page, `#list a[href="${machine.path}"]`);
  await page.keyboard.press('Enter');
  await heading(page, machine.mac);

  await tabTo(page, '#boot_mode');
  await choose(page, 'bty-flash-once');
  await page.locator('#params').getByText('reboot, or start the flashed system').waitFor();
  await tabTo(page, '#image');
  await choose(page, 'debian 13');
  await tabTo(page, '#disk');
  await choose(page, machine.serial);
  await page.waitForFunction(() => !document.querySelector('#next .wrong') && document.querySelectorAll('#next li').length > 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'disk', 'what is drawn anew takes no focus');
  await tabTo(page, '#binding button:not([formaction])');
  await page.keyboard.press('Enter');

  await page.locator('.danger').waitFor();
  await tabTo(page, '.danger button');
  await page.keyboard.press('Enter');
  await page.getByRole('status').filter({ hasText: 'is saved' }).waitFor();
  await page.locator('#state').getByText('Waiting for boot: flash').waitFor();
  const { boot_mode, target_disk_serial } = await machine.shown();
  assert.deepEqual([boot_mode, target_disk_serial], ['bty-flash-once', machine.serial]);
  faultless(page, 'keyboard');
  await page.context().close();
});

test('the first stop of a page leads past its navigation', async () => {
  const page = await operator(browser, server);
  await page.goto('/ui/machines');
  await page.keyboard.press('Tab');
  const skip = page.getByRole('link', { name: 'Skip to content' });
  assert.equal(await skip.evaluate((link) => document.activeElement === link), true);
  assert.equal(await skip.evaluate((link) => link.getBoundingClientRect().left >= 0 && link.getBoundingClientRect().top >= 0), true, 'it is seen');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => location.hash === '#main');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.closest('main') !== null), true);
  await page.context().close();
});

test('a deletion is asked, and confirmed or left, by keyboard', async () => {
  const page = await operator(browser, server);
  await page.goto(machine.path);
  await tabTo(page, '#state .confirm summary');
  await page.keyboard.press('Enter');
  await tabTo(page, '#state .confirm button');
  assert.equal((await machine.shown()).mac, machine.mac, 'nothing is deleted yet');
  await page.keyboard.press('Enter');
  await heading(page, 'Machines');
  assert.equal((await server.request('GET', `/machines/${machine.mac}`)).status, 404);
  await tabTo(page, '.notice button');
  await page.keyboard.press('Enter');
  await page.getByText('The change is undone.').waitFor();
  assert.equal((await machine.shown()).mac, machine.mac);
  await page.context().close();
});
