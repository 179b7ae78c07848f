// The screenshots of the documentation: all of one size, each in light and in dark.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { openBrowser, operator } from './browser.mjs';
import { faultless } from './checks.mjs';
import { submit } from './form.mjs';
import { fleet, liveEnvironment } from './seeds.mjs';
import { Server } from './server.mjs';

export const SIZE = { width: 1280, height: 800 };

// The name of a screenshot's file. The pages of the documentation name the light one.
export const FILES = { light: (name) => `${name}.png`, dark: (name) => `${name}-dark.png` };

// Name, page, and what to do on it before the shutter.
export const SCREENSHOTS = [
  { name: 'dashboard', path: '/ui/dashboard' },
  { name: 'machines', path: '/ui/machines' },
  { name: 'machine', path: '/ui/machines/02-b7-f0-00-00-11', prepare: (page) => page.locator('#state progress').waitFor() },
  { name: 'confirmation', path: '/ui/machines/02-b7-f0-00-00-05', prepare: assign },
  { name: 'plan-editor', path: '/ui/plans/night/edit', prepare: misspell },
  { name: 'images', path: '/ui/images' },
];

// Assigns an image and a disk, and stops at the question.
async function assign(page) {
  const form = page.locator('#binding');
  await form.getByLabel('Plan', { exact: true }).selectOption('bty-flash-once');
  await form.getByLabel('Image', { exact: true }).selectOption({ index: 1 });
  await form.getByLabel('Target disk').selectOption({ index: 1 });
  await submit(form, 'Save');
  await page.locator('.danger').waitFor();
}

async function misspell(page) {
  const script = page.getByLabel('Script');
  await script.fill((await script.inputValue()).replace('boot_firmware(', 'boot_frmware('));
  await page.locator('#problems li[data-line]').first().waitFor();
  await script.blur();
  await page.getByRole('button', { name: 'Save', exact: true }).scrollIntoViewIfNeeded();
}

const REPORTS = 3;
// Milliseconds between progress reports, so that the pages show realistic rates.
const PACE = 2500;

async function work(machines, pace) {
  for (let report = 1; report <= REPORTS; report += 1) {
    await pause(pace);
    for (const [i, machine] of machines.entries()) await machine.progress(10 * i + 5 * report);
  }
}

async function take(browser, server, dir, theme) {
  const page = await operator(browser, server, { colorScheme: theme, viewport: SIZE });
  for (const { name, path, prepare } of SCREENSHOTS) {
    await page.goto(path, { waitUntil: 'load' });
    await prepare?.(page);
    await page.screenshot({ path: join(dir, FILES[theme](name)) });
    faultless(page, `${name} (${theme})`);
  }
  await page.context().close();
}

// Takes all screenshots of a server with forty machines.
export async function takeAll(dir, { pace = PACE } = {}) {
  mkdirSync(dir, { recursive: true });
  const browser = await openBrowser();
  const server = await Server.withCache();
  try {
    const { machines } = await fleet(server);
    await liveEnvironment(server);
    await work(machines.filter((_, n) => n % 5 === 1), pace);
    for (const theme of Object.keys(FILES)) await take(browser, server, dir, theme);
  } finally {
    await browser.close();
    await server.end();
  }
}
