// The screenshots of the documentation: each that a page shows is made by lib/screenshots.mjs, and
// can still be made.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PICTURES } from './lib/checks.mjs';
import { FILES, SCREENSHOTS, SIZE, takeAll } from './lib/screenshots.mjs';

const TREE = new URL('../..', import.meta.url).pathname;
const IMAGES = join(TREE, 'docs/images');

const documents = () => {
  const pages = readdirSync(join(TREE, 'docs'), { recursive: true }).filter((name) => name.endsWith('.md'));
  return ['README.md', ...pages.map((name) => join('docs', name))];
};

// Width and height of a PNG file: the first fields after the head of its first chunk.
const sizeOf = (path) => {
  const head = readFileSync(path).subarray(16, 24);
  return { width: head.readUInt32BE(0), height: head.readUInt32BE(4) };
};

test('the documentation shows all screenshots, and no others', () => {
  const made = SCREENSHOTS.map(({ name }) => FILES.light(name)).sort();
  const shown = new Set(documents().flatMap((name) => readFileSync(join(TREE, name), 'utf8').match(/[\w-]+\.png/g) ?? []));
  assert.deepEqual([...shown].filter((name) => !name.endsWith('-dark.png')).sort(), made);
});

test('each screenshot exists in light and in dark, and all have one size', () => {
  const files = SCREENSHOTS.flatMap(({ name }) => Object.values(FILES).map((file) => file(name))).sort();
  assert.deepEqual(readdirSync(IMAGES).filter((name) => name.endsWith('.png')).sort(), files);
  for (const name of files) assert.deepEqual(sizeOf(join(IMAGES, name)), SIZE, name);
});

test('they can be made', () => takeAll(join(PICTURES, 'docs'), { pace: 0 }));
