"""A web server that sends the beginning of an image and then waits, so that a test can stop a flash
in the middle."""

import contextlib
import http.server
import threading


@contextlib.contextmanager
def slow_image(data, begin):
    """Returns the address of `data`. The first `begin` bytes are sent at once, the rest after
    `release` is set.
    """
    release = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def answer(self, has_body):
            start = 0
            wanted = self.headers.get("Range")
            end = len(data) - 1
            if wanted:
                first, _, last = wanted.partition("=")[2].partition("-")
                start, end = int(first), int(last or end)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
            else:
                self.send_response(200)
            body = data[start : end + 1]
            self.send_header("ETag", '"1"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not has_body:
                return
            with contextlib.suppress(OSError):
                self.wfile.write(body[:begin])
                if len(body) > begin:
                    release.wait(60)
                    self.wfile.write(body[begin:])

        def log_message(self, *_words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/slow.img", release
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()
