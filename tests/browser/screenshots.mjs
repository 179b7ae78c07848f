// Makes the screenshots of the documentation, in docs/images. usage: node screenshots.mjs
import { takeAll } from './lib/screenshots.mjs';

await takeAll(new URL('../../docs/images', import.meta.url).pathname);
