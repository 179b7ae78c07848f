// Starts Debian's Chromium, and records the errors of pages.
import { chromium } from 'playwright-core';
import { PASSWORD } from './server.mjs';

const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--hide-scrollbars',
];

export const openBrowser = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGUMENTS });

// Browsers log every refused request to the console, which is expected for forms that the server
// must refuse.
export const REFUSED = /Failed to load resource: .* status of 4\d\d/;
export const OFFLINE = /Failed to load resource|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|htmx:sendError/;

// htmx reports it as an error if a newer request replaces a pending one.
const REPLACED = /htmx:(sendAbort|afterRequest),/;

// Records the errors of a page: console errors, uncaught exceptions, policy violations, and
// dialogs.
export function watch(page, ...allowed) {
  const faults = [];
  const keep = (text) => [REPLACED, ...allowed].some((pattern) => pattern.test(text)) || faults.push(text);
  page.on('console', (message) => message.type() === 'error' && keep(`console: ${message.text()} ${message.location().url}`));
  page.on('pageerror', (error) => keep(`script: ${error.message}`));
  page.on('dialog', (dialog) => {
    keep(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  return faults;
}

// Logs violations of the content policy, not all of which appear on the console.
const TELL_VIOLATIONS = () =>
  document.addEventListener('securitypolicyviolation', (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));

// Opens a page as an operator, logged in unless `logIn` is false.
export async function operator(browser, server, { logIn = true, allow = [], ...options } = {}) {
  const context = await browser.newContext({ baseURL: server.base, viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(120_000);
  if (options.javaScriptEnabled !== false) await context.addInitScript(TELL_VIOLATIONS);
  const page = await context.newPage();
  page.faults = watch(page, ...allow);
  if (logIn && server.password) await enter(page);
  return page;
}

export async function enter(page, password = PASSWORD) {
  await page.goto('/ui/login');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.waitForURL((url) => url.pathname !== '/ui/login');
}
