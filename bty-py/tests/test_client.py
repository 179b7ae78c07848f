"""The client, with a real server."""

import http.server
import threading
from datetime import timezone

import pytest
from slow import slow_image

import bty
from bty.client import Server

MAC = "52:54:00:12:34:56"
PLAN = '//! Never writes.\nfn boot(m) { boot_disk("as it is") }\n'


def test_machines_plans_and_events(web):
    server = Server(web[0])
    assert server.machines() == []
    assert {"ipxe-exit", "bty-flash-once"} <= {plan.name for plan in server.plans()}
    saved = server.save_plan("mine", PLAN, note="first")
    assert saved.revision == 1 and server.plan("mine").source == PLAN
    machine = server.bind(MAC, "mine", labels=["rack"], target_disk_serial="A")
    assert (machine.mac, machine.boot_mode, machine.labels, machine.target_disk_serial) == (MAC, "mine", ["rack"], "A")
    assert machine.extra["created_at"]
    assert server.change(MAC, labels=["row"]).labels == ["row"]
    assert server.machine(MAC) in server.machines(label="row")
    steps = server.simulate(MAC, boots=2)
    assert [(step.boot, step.offer, step.reason) for step in steps] == [(1, "disk", "as it is"), (2, "disk", "as it is")]
    assert server.simulate_fleet(boots=1)
    events = server.events(subject_kind="machine", subject_id=MAC)
    assert events and events[0].ts.tzinfo == timezone.utc
    assert server.check_plan("fn boot(m) { nothing() }")["problems"]
    server.forget(MAC)
    server.delete_plan("mine")
    assert server.machines() == []


def test_catalog(web):
    server = Server(web[0])
    assert server.catalog() == []
    with slow_image(b"boot" * 4096, 1 << 20) as (address, _):
        added = server.add_image(address, name="debian 13")
    assert (added.name, added.src) == ("debian 13", address)
    assert [image.name for image in server.catalog()] == ["debian 13"]


def test_following(web):
    server = Server(web[0])
    server.bind(MAC, "ipxe-exit")
    first = server.events(subject_id=MAC)[-1]
    stream = server.follow(after_id=first.id - 1)
    assert next(stream) == first
    told = threading.Thread(target=lambda: server.change(MAC, labels=["seen"]))
    told.start()
    while (event := next(stream)).id <= first.id or event.subject_id != MAC:
        pass
    told.join()
    assert event.kind.startswith("machine.")
    stream.close()


def test_what_goes_wrong(web):
    server = Server(web[0])
    with pytest.raises(bty.ServerError) as raised:
        server.machine("52:54:00:00:00:00")
    assert raised.value.status == 404 and raised.value.kind == "server"
    with pytest.raises(bty.ServerError) as raised:
        server.save_plan("mine", "fn boot(m) { ")
    assert raised.value.status == 422 and raised.value.details["problems"]
    with pytest.raises(bty.SourceError):
        Server("http://127.0.0.1:1", attempts=2, retry_delay=0.01).machines()
    for url in ("ftp://a", "/a", ""):
        with pytest.raises(ValueError):
            Server(url)
    with pytest.raises(ValueError):
        Server("http://a", token="a\r\nHost: b")


def test_tokens(web):
    base, command = web
    token = command("token", "create", "ci", "--scope", "read").strip().splitlines()[-1]
    assert Server(base, token).plans()
    assert token not in repr(Server(base, token))


def test_only_what_changes_nothing_is_sent_again():
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            requests.append(self.command)
            is_well = self.command == "GET" and requests.count("GET") >= 3
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b"[]" if is_well else b"later"
            self.send_response(200 if is_well else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = answer

        def log_message(self, *_words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        server = Server(f"http://127.0.0.1:{listening.server_port}", retry_delay=0.01)
        assert server.machines() == []
        with pytest.raises(bty.ServerError) as raised:
            server.bind(MAC, "ipxe-exit")
        listening.shutdown()
        thread.join()
    assert requests == ["GET", "GET", "GET", "PUT"]
    assert raised.value.status == 503
