// Checks that apply to every page.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';
import { HtmlValidate, StaticConfigLoader } from 'html-validate';

export const PICTURES = new URL('../../../target/screenshots', import.meta.url).pathname;

// Runs `check` for each item, and reports all failures at once.
export async function each(items, check) {
  const wrong = [];
  for (const item of items) await check(item).catch((error) => wrong.push(error.cause ? `${error.message}: ${error.cause.message}` : error.message));
  if (wrong.length) assert.fail(wrong.join('\n\n'));
}

// Checks that nothing is wider than the window. Tables and code scroll on their own.
export async function fits(page, what) {
  const over = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return null;
    const clips = (element) => getComputedStyle(element).overflowX !== 'visible';
    // an absolutely positioned element is clipped only by the element that positions it
    const holder = (element) => (getComputedStyle(element).position === 'absolute' ? element.offsetParent : element.parentElement);
    const isClipped = (element) => {
      let around = holder(element);
      while (around && around !== document.body && !clips(around)) around = holder(around);
      return around && around !== document.body;
    };
    // the text of an element can be wider than its box
    const right = (element) => {
      const text = document.createRange();
      text.selectNodeContents(element);
      return Math.max(element.getBoundingClientRect().right, text.getBoundingClientRect().right);
    };
    const reaches = (element) => right(element) > width + 1 && !isClipped(element);
    const isLowest = (element, _, all) => !all.some((other) => other !== element && element.contains(other));
    const widest = [...document.querySelectorAll('body *')].filter(reaches).filter(isLowest).map((element) => element.outerHTML.slice(0, 120));
    return { width, scrollWidth: document.documentElement.scrollWidth, widest: widest.slice(0, 5) };
  });
  if (over) assert.fail(`${what} scrolls sideways: ${JSON.stringify(over, null, 1)}`);
  const wide = await page.evaluate(WIDE_CARDS);
  if (wide.length) assert.fail(`${what}: rows that are cards are cut off: ${JSON.stringify(wide, null, 1)}`);
  const outside = await page.evaluate(OUTSIDE);
  if (outside.length) assert.fail(`${what} has what reaches out of its card: ${JSON.stringify(outside, null, 1)}`);
}

// In narrow windows, table rows become cards. Finds those that need horizontal scrolling.
const WIDE_CARDS = () => {
  const found = [];
  for (const table of document.querySelectorAll('table.cards-when-narrow')) {
    const row = table.querySelector('tbody tr');
    const around = table.closest('.wide');
    if (!row || !around || getComputedStyle(row).display === 'table-row' || around.scrollWidth <= around.clientWidth + 1) continue;
    const edge = around.getBoundingClientRect().right + 1;
    const widest = [...table.querySelectorAll('tbody *')].filter((element) => element.getBoundingClientRect().right > edge);
    found.push(`${around.scrollWidth} in ${around.clientWidth}`, ...widest.slice(0, 4).map((element) => element.outerHTML.slice(0, 120)));
  }
  return found;
};

// Finds text and fields that extend into the padding of their card, or beyond.
const OUTSIDE = () => {
  const found = [];
  for (const card of document.querySelectorAll('.card')) {
    const edge = card.getBoundingClientRect().right - parseFloat(getComputedStyle(card).paddingRight);
    const clips = (element) => element !== card && (getComputedStyle(element).overflowX !== 'visible' || clips(element.parentElement));
    for (const element of card.querySelectorAll('time, code, a, p, li, dd, input, select, button, textarea, .words, .label')) {
      if (element.getBoundingClientRect().right > edge + 1 && !clips(element.parentElement)) found.push(element.outerHTML.slice(0, 120));
    }
  }
  return found.slice(0, 5);
};

export function faultless(page, what) {
  if (page.faults.length) assert.fail(`${what}: ${page.faults.join('\n')}`);
}

// For a page whose colors another check has seen: contrast is half of the work of axe.
export const NO_COLORS = { rules: { 'color-contrast': { enabled: false } } };

// Checks that axe finds no serious or critical violation, with these options of `axe.run`.
export async function accessible(page, what, options = {}) {
  await page.evaluate(`window.axe || (() => { ${axe.source} })()`);
  const found = await page.evaluate(async (options) => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'], ...options });
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, help, nodes }) => ({ id, help, nodes: nodes.slice(0, 4).map((node) => `${node.html.slice(0, 200)} ${node.any[0]?.message ?? ''}`) }));
  }, options);
  if (found.length) assert.fail(`${what}: ${JSON.stringify(found, null, 1)}`);
}

const validator = new HtmlValidate(new StaticConfigLoader({ extends: ['html-validate:standard'] }));

// Validates HTML as served.
export async function valid(html, what) {
  const { results } = await validator.validateString(html);
  const wrong = results.flatMap(({ messages }) =>
    messages.map(({ ruleId, message, line, column }) => `${line}:${column} ${ruleId}: ${message}`));
  if (wrong.length) assert.fail(`${what}:\n${wrong.join('\n')}`);
}

// Maximum height of a screenshot in pixels.
const HEIGHT_MAX = 4000;

// Takes a screenshot of the whole page, for people to review. Not in CI, where nobody looks at
// them.
export async function picture(page, ...name) {
  if (process.env.CI) return;
  const { width } = page.viewportSize();
  const path = join(PICTURES, ...name) + '.png';
  mkdirSync(join(path, '..'), { recursive: true });
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width, height: Math.min(height, HEIGHT_MAX) } });
}
