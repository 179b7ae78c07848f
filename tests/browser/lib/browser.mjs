// Debian's Chromium, and pages whose faults are kept.
import { chromium } from 'playwright-core';
import { PASSWORD } from './server.mjs';

const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--hide-scrollbars',
];

export const openBrowser = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGUMENTS });

// Browsers write every refused request into the console; for a form that is to be refused that is no fault.
export const REFUSED = /Failed to load resource: .* status of 4\d\d/;
export const OFFLINE = /Failed to load resource|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|htmx:sendError/;

// A newer request takes the place of one that is under way: htmx tells so as an error.
const REPLACED = /htmx:(sendAbort|afterRequest),/;

// Keeps what goes wrong in a page: errors in its console, scripts that throw, the content policy, dialogs.
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

// A violation of the content policy that the console would not show.
const TELL_VIOLATIONS = () =>
  document.addEventListener('securitypolicyviolation', (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));

// A browser of an operator: `logIn: false` for one who is not in yet.
export async function operator(browser, server, { logIn = true, allow = [], ...options } = {}) {
  const context = await browser.newContext({ baseURL: server.base, viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(30_000);
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
