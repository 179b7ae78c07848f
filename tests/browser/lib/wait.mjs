// Waits for conditions. Elapsed time is never taken as proof of anything.
import { setTimeout as pause } from 'node:timers/promises';

// Generous, so that a slow machine does not make a test fail.
const LIMIT_MS = 120_000;

export async function until(what, holds, limit = LIMIT_MS) {
  const end = Date.now() + limit;
  let last;
  while (Date.now() < end) {
    last = await holds();
    if (last) return last;
    await pause(50);
  }
  throw new Error(`it did not come to this: ${what}`);
}
