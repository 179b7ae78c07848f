vcl 4.1;
# Varnish as a cache in front of bty-web: artifacts below /boot, and images below /b of a cache
# host. Tested by `make test`.

backend server { .host = "127.0.0.1"; .port = "8080"; }
backend cache { .host = "127.0.0.1"; .port = "3000"; }

sub vcl_recv {
    # plain HTTP, which can be intercepted: forward no password and no token, and accept only
    # reports of machines
    if (req.method != "GET" && req.method != "HEAD" && !(req.method == "POST" && req.url ~ "^/pxe/")) {
        return (synth(403));
    }
    unset req.http.Cookie;
    unset req.http.Authorization;
    set req.backend_hint = server;
    if (req.url ~ "^/b/") {
        set req.backend_hint = cache;
    } else if (req.url !~ "^/boot/.+\.(vmlinuz|initrd|squashfs|efi|kpxe)$") {
        # scripts, plans and reports of machines must not be cached
        return (pass);
    }
    return (hash);
}

sub vcl_backend_response {
    # deliver while fetching
    set beresp.do_stream = true;
    if (beresp.status == 200) {
        # the server requires revalidation each time (no-cache); here a copy is valid for a minute,
        # and longer while the server is unreachable
        set beresp.ttl = 1m;
        set beresp.grace = 1h;
        set beresp.keep = 1d;
        return (deliver);
    }
}
