// A plain web server with images.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

// Serves `files` (text or bytes, by name), and a `NAME.sha256` for each.
export async function origin(files) {
  const bodies = new Map();
  for (const [name, text] of Object.entries(files)) {
    const body = Buffer.from(text);
    const digest = createHash('sha256').update(body).digest('hex');
    bodies.set(`/${name}`, body);
    bodies.set(`/${name}.sha256`, Buffer.from(`${digest}  ${name}\n`));
  }
  const server = createServer((request, response) => {
    const body = bodies.get(request.url);
    if (!body) return response.writeHead(404).end();
    response.writeHead(200, { 'content-length': body.length, etag: `"${body.length}"` });
    response.end(request.method === 'HEAD' ? undefined : body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return { base: `http://127.0.0.1:${server.address().port}`, end: () => server.closeAllConnections() ?? server.close() };
}
