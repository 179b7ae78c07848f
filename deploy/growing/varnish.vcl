vcl 4.1;
# Varnish as a cache before bty-web: artifacts of /boot, and images of /b of a cache host. Tested by `make test`.

backend server { .host = "127.0.0.1"; .port = "8080"; }
backend cache { .host = "127.0.0.1"; .port = "3000"; }

sub vcl_recv {
    # plain HTTP, where a password or token could be read on the way: none is forwarded, and only reports of machines are accepted
    if (req.method != "GET" && req.method != "HEAD" && !(req.method == "POST" && req.url ~ "^/pxe/")) {
        return (synth(403));
    }
    unset req.http.Cookie;
    unset req.http.Authorization;
    set req.backend_hint = server;
    if (req.url ~ "^/b/") {
        set req.backend_hint = cache;
    } else if (req.url !~ "^/boot/.+\.(vmlinuz|initrd|squashfs|efi|kpxe)$") {
        # machines' scripts, plans and reports are never cached
        return (pass);
    }
    return (hash);
}

sub vcl_backend_response {
    # sent on while it comes
    set beresp.do_stream = true;
    if (beresp.status == 200) {
        # the server has everything asked for again each time (no-cache); here it is taken as it is for a minute, and longer when the server is away
        set beresp.ttl = 1m;
        set beresp.grace = 1h;
        set beresp.keep = 1d;
        return (deliver);
    }
}
