# make demo   write a real, bootable image to a disk over HTTP, prove it, and let a server do the same to a machine
# make test   everything CI runs
#
# One profile serves everything but the benchmarks, so nothing is built twice.

CARGO ?= cargo
DENY_VERSION := 0.20.2
TOOLS := target/tools

.PHONY: help build demo test unit test-browser test-python bench-pages lint doc fuzz-check deny deb media images wheels test-wheels test-chain test-arm64 bench bench-scripts bench-server bench-bytes bench-python fleet test-reference test-api packages clean

help:
	@sed -n 's/^# //p' Makefile | head -n 2

build:
	$(CARGO) build --workspace

demo: build
	examples/demo/run.sh

test: packages lint unit test-browser test-python doc fuzz-check

unit: build
	$(CARGO) test --workspace

# about three minutes: every page in a browser; screenshots in target/screenshots. Needs node and npm
test-browser: build packages
	tests/browser/run.sh

# a few minutes: the Python module in virtual environments of its own, on the system's Python and on others that are there
test-python: build packages
	bty-py/test.sh

# about half an hour: what is published of the Python module, in target/wheels. ARCHES="--arch x86_64" makes one only
wheels: packages
	bty-py/wheels $(ARCHES)

# about half an hour: those, installed, on the newest Python and on arm64 too; and the sdist, built where there is no network
test-wheels: packages
	tests/install-packages.sh tests/packages-arm64.txt
	bty-py/test-wheels.sh

# a few minutes: the time of every page with 10,000 machines and 1,000,000 events
bench-pages: packages
	$(CARGO) build --release -p bty-web
	BTY_WEB=$(CURDIR)/target/release/bty-web tests/browser/run.sh --speed > target/benchmarks-pages.md
	mv target/benchmarks-pages.md docs/benchmarks-pages.md

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

# fuzz targets need a nightly compiler to run, and none to be kept in step
fuzz-check:
	cd fuzz && RUSTFLAGS="--cfg fuzzing" $(CARGO) check --target-dir ../target/fuzz

deny:
	@command -v cargo-deny >/dev/null || test -x $(TOOLS)/bin/cargo-deny || \
		$(CARGO) install --locked --root $(TOOLS) --version $(DENY_VERSION) cargo-deny
	PATH="$(TOOLS)/bin:$$PATH" $(CARGO) deny check licenses bans sources

# a few minutes: target/bty_VERSION_ARCH.deb, of static programs. DEB_PROGRAMS has them, where they are built already
DEB_PROGRAMS ?= target/static/x86_64-unknown-linux-gnu/release
deb:
	test -x $(DEB_PROGRAMS)/bty-lab || (cd media && python3 -m builder.programs)
	deploy/debian/build $(DEB_PROGRAMS) target

# a few minutes: everything that machines boot, in target/media
media: packages
	media/build

# a few minutes for each architecture: container images, in target/images. ARCHES="--arch x86_64" makes one only
images: packages
	deploy/images/build $(ARCHES)

# about a quarter of an hour: every machine of the chain, from power-on to the flashed system, and sites of containers. `make test` runs the short ones.
test-chain: build packages
	$(CARGO) test -p bty-tests -- --include-ignored --test-threads=2 --skip chain::arm64 chain:: lab::

# about ten minutes: the same for arm64, whose programs are built in a root file system of Debian sid, and emulated
test-arm64: build packages
	tests/install-packages.sh tests/packages-arm64.txt
	mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
	update-binfmts --enable qemu-aarch64
	$(CARGO) test -p bty-tests -- --include-ignored --test-threads=1 chain::arm64

# opt-in: the reference server as a peer; installs it from its package registry
test-reference: build packages
	tests/reference/setup.sh target/reference
	BTY_TEST_REFERENCE=$(CURDIR)/target/reference $(CARGO) test -p bty-tests -- reference:: peer::
	bty-py/test.sh -q -x tests/test_docs.py
	tests/reference/python.sh $(CURDIR)/target/py/bin/python $(CURDIR)/target/reference-tests

# long: builds images from a Debian root file system, and times bty beside other tools
bench:
	tests/bench/run.sh
	$(MAKE) bench-server bench-bytes

# a few minutes: what scripts cost, and how soon there is a prompt
bench-scripts:
	tests/reference/setup.sh target/reference
	$(CARGO) build --release -p bty-script --bin bty --example engine_cost
	python3 tests/bench/scripts.py target/release/bty target/release/examples/engine_cost target/reference docs/benchmarks-scripts.md

# about five minutes: the server beside the reference server; needs wrk
bench-server:
	tests/reference/setup.sh target/reference
	$(CARGO) build --release -p bty-web
	python3 tests/bench/server.py target/release/bty-web target/reference docs/benchmarks-server.md

# about ten minutes: the cache host and TFTP beside others; installs nginx-light, tftpd-hpa, dnsmasq-base, and the reference's cache host
bench-bytes:
	tests/install-packages.sh tests/bench/packages-bytes.txt
	test -x target/withcache/bin/withcache-server || { python3 -m venv target/withcache && target/withcache/bin/pip -q install withcache==0.6.2; }
	$(CARGO) build --release -p bty-web
	$(CARGO) build --release -p bty-tests --example load
	python3 tests/bench/bytes.py target/release/bty-web target/release/examples/load target/withcache docs/benchmarks-bytes.md

# a few minutes: what Python adds, and the module beside the reference package
bench-python:
	tests/install-packages.sh tests/bench/packages.txt
	tests/reference/setup.sh target/reference
	$(CARGO) build --release -p bty-py
	python3 tests/bench/python.py target/release/lib_bty.so target/reference docs/benchmarks-python.md

# long: a thousand simulated machines in many runs, each with another seed; ends with the first wrong decision
fleet: build
	tests/fleet.sh target/debug/bty-web

# opt-in: a tool that makes requests from the document of the API; installs it from its package registry
test-api: build
	tests/schemathesis.sh target/debug/bty-web target/schemathesis

packages:
	@tests/install-packages.sh tests/packages.txt

clean:
	$(CARGO) clean
	rm -rf build
