// Waiting for conditions. Nothing here takes a time that has passed as proof of anything.
import { setTimeout as pause } from 'node:timers/promises';

// A slow machine is no failure; something that never comes is.
const LIMIT_MS = 30_000;

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
