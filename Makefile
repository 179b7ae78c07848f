# make demo   writes an image to a disk over HTTP, proves it and boots it; then a server has a
#             machine flashed
# make test   all tests that need no emulated machine
#
# `make help` lists every target. One profile serves everything but benchmarks and releases, so
# nothing is built twice.

CARGO ?= cargo
DENY_VERSION := 0.20.2
TOOLS := target/tools
# most tests wait for something, so more of them than there are cores can run
THREADS ?= 6
# an emulated machine computes: three share two cores best
MACHINES ?= 3
# In CI nothing is compiled a second time, so incremental data would only cost time; and the build
# lints and documents what it compiles.
CI_BUILD := env CARGO_INCREMENTAL=0 RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/.cargo/lint
BUILD := $(if $(CI),$(CI_BUILD)) $(CARGO)
# the harness of the tests of the whole
WHOLE = $(BUILD) test --workspace --test tests --quiet --

.PHONY: help build demo check test unit whole lint doc docs test-python test-browser test-chain deny advisories test-all test-arm64 features publish-check test-examples test-times \
    screenshots recordings deb media images wheels test-wheels test-reference test-api test-strangers fleet bench bench-pages bench-scripts bench-server bench-bytes bench-delta bench-python packages clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-22s %s\n", $$1, $$2 }'

# --- while working ---

build: packages ## everything, with its tests; 7 min from nothing
	tests/step build $(BUILD) build --workspace --all-targets

demo: ## the main job, from an empty checkout; 3 min of compiling, then half a minute
	@CARGO="$(CARGO)" examples/demo/run.sh --check
	@printf '\n== compiling bty and bty-web: 3 minutes on two cores, less if something has been compiled before\n'
	$(CARGO) build --profile demo -p bty-script --bin bty -p bty-web --bin bty-web \
	    --no-default-features --features bty-script/command
	@examples/demo/run.sh

check: ## format, lint and unit tests; 2 min after a change. CRATE=bty-core: the tests of one crate
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test $(if $(CRATE),-p $(CRATE),--workspace --lib --bins) --quiet

# --- before every commit, and in CI ---

test: ## everything that needs no emulated machine; 11 min after a build
	$(MAKE) --jobs=2 --output-sync=target test-browser test-python docs
	$(MAKE) whole unit lint doc

lint: build
	tests/step format $(CARGO) fmt --all --check
	$(if $(CI),,tests/step clippy $(CARGO) clippy --workspace --all-targets --quiet -- -D warnings)

unit: build
	RUST_TEST_THREADS=$(THREADS) tests/step unit $(BUILD) test --workspace --quiet --lib --bins --test limits --test embedded
	tests/step doctests $(BUILD) test --workspace --quiet --doc

whole: build packages ## flashes, servers, terminals and networks, with real peers; 3 min. FILTER=web::cache: some of them
	RUST_TEST_THREADS=$(THREADS) tests/step whole $(WHOLE) $(FILTER)

doc: build
	$(if $(CI),,RUSTDOCFLAGS="-D warnings" tests/step doc $(CARGO) doc --workspace --no-deps --quiet)

docs: packages ## the documentation as a site, in target/site; checks its links, spelling and pictures; 10 s
	tests/step docs docs/site/build.sh

test-browser: build packages docs ## every page in a browser; 3 min, screenshots in target/screenshots. Needs node and npm
	tests/step browser tests/browser/run.sh

test-python: build packages ## the Python module, on each Python that is here; 3 min
	tests/step python bty-py/test.sh

test-chain: build packages docs ## machines from power-on, and sites of containers; 10 min. FILTER=chain::faults: some of them
	RUST_TEST_THREADS=$(MACHINES) tests/step chain $(WHOLE) --ignored --skip matrix:: $(FILTER)

deny: ## licences, sources and directions of dependencies, offline; at once unless Cargo.lock or deny.toml has changed
	@tests/step deny tests/dependencies/deny.sh $(TOOLS) $(DENY_VERSION)

# --- before a release ---

advisories: ## known vulnerabilities of dependencies; fetches the RustSec database, and fails without one of the last 30 days
	@tests/step advisories tests/dependencies/advisories.sh $(TOOLS) $(DENY_VERSION)

test-all: test test-chain deny features publish-check test-examples test-arm64 fleet ## the whole matrix, arm64, wheels, reference peers, fault campaigns; hours
	RUST_TEST_THREADS=$(MACHINES) tests/step matrix $(WHOLE) --ignored --skip matrix::arm64 matrix::
	$(MAKE) test-reference test-api wheels test-wheels

features: ## each combination of the features of bty-core, and the other crates without theirs; 10 min
	@tests/step features tests/features.sh

publish-check: ## packs the crates of the registry, and builds what was packed; 10 min. Needs a network
	@tests/step publish tests/publish-check.sh

test-examples: build packages ## the examples that are crates of their own, built as a stranger builds them; 10 min
	tests/step examples tests/examples.sh $(WHOLE)

test-arm64: build packages ## the chain on arm64, emulated; 10 min. Builds in a root file system of Debian sid
	tests/install-packages.sh tests/packages-arm64.txt
	mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
	update-binfmts --enable qemu-aarch64
	RUST_TEST_THREADS=1 tests/step arm64 $(WHOLE) --ignored matrix::arm64

test-times: packages build ## the time of each step and the 30 slowest tests, as tables
	tests/times.sh $(THREADS) $(MACHINES)

test-reference: build packages ## the reference server as a peer; installs it from its package registry
	tests/reference/setup.sh target/reference
	BTY_TEST_REFERENCE=$(CURDIR)/target/reference $(WHOLE) reference:: peer::
	bty-py/test.sh -q -x tests/test_docs.py
	tests/reference/python.sh $(CURDIR)/target/py/bin/python $(CURDIR)/target/reference-tests

test-api: build ## requests made from the document of the API; installs a tool from its package registry
	tests/schemathesis.sh target/debug/bty-web target/schemathesis

fleet: build ## a thousand simulated machines in many runs, each with another seed; ends with the first wrong decision
	tests/fleet.sh target/debug/bty-web

test-strangers: ## a flood of connections, invented machines and log-ins, measured against the limits of docs/explanation/security.md; 5 min
	$(CARGO) build --release -p bty-web
	tests/strangers.py target/release/bty-web

# --- what is published ---

screenshots: build packages ## docs/images/*.png, of a server with forty machines; 1 min. Needs node and npm
	tests/browser/run.sh --screenshots

recordings: build packages ## docs/images/terminal-*.svg, of real commands; 1 min
	BTY_RECORD=1 $(WHOLE) command::recordings

deb: docs ## target/bty_VERSION_ARCH.deb, of static programs; 6 min. DEB_PROGRAMS has them, where they are built already
	test -x $(DEB_PROGRAMS)/bty-lab || (cd media && python3 -m builder.programs)
	deploy/debian/build $(DEB_PROGRAMS) target
DEB_PROGRAMS ?= target/static/x86_64-unknown-linux-gnu/release

media: packages ## everything that machines boot, in target/media; 10 min
	media/build

images: packages docs ## container images of both architectures, in target/images; 15 min. ARCHES="--arch x86_64": one
	deploy/images/build $(ARCHES)

wheels: packages ## the published Python module, in target/wheels; 30 min. ARCHES="--arch x86_64": one
	bty-py/wheels $(ARCHES)

test-wheels: packages ## those, installed on the newest Python and on arm64, and the sdist without a network; 30 min
	tests/install-packages.sh tests/packages-arm64.txt
	bty-py/test-wheels.sh

# --- benchmarks: each writes a page of docs/ ---

bench: ## bty beside other tools, on images made of a Debian root file system; an hour
	tests/bench/run.sh
	$(MAKE) bench-server bench-bytes

bench-pages: packages ## every page with 10,000 machines and 1,000,000 events; 10 min
	$(CARGO) build --release -p bty-web
	BTY_WEB=$(CURDIR)/target/release/bty-web tests/browser/run.sh --speed > target/benchmarks-pages.md
	mv target/benchmarks-pages.md docs/benchmarks-pages.md

bench-scripts: ## what scripts cost, and how soon there is a prompt; 10 min
	tests/reference/setup.sh target/reference
	$(CARGO) build --release -p bty-script --bin bty --example engine_cost
	python3 tests/bench/scripts.py target/release/bty target/release/examples/engine_cost target/reference docs/benchmarks-scripts.md

bench-server: ## the server beside the reference server; 15 min, needs wrk
	tests/reference/setup.sh target/reference
	$(CARGO) build --release -p bty-web
	python3 tests/bench/server.py target/release/bty-web target/reference docs/benchmarks-server.md

bench-bytes: ## cache host and TFTP beside others; 20 min, installs nginx, tftpd-hpa, dnsmasq and the reference's cache host
	tests/install-packages.sh tests/bench/packages-bytes.txt
	test -x target/withcache/bin/withcache-server || { python3 -m venv target/withcache && target/withcache/bin/pip -q install withcache==0.6.2; }
	$(CARGO) build --release -p bty-web
	$(CARGO) build --release -p bty-tests --example load
	python3 tests/bench/bytes.py target/release/bty-web target/release/examples/load target/withcache docs/benchmarks-bytes.md

bench-delta: ## the delta flash on disks and links with set rates; 10 min, the first time 15 more for its images; needs root
	tests/install-packages.sh tests/bench/packages-delta.txt
	$(CARGO) build --release -p bty-script --bin bty
	-test -x build/bench/tools/bin/bita || $(CARGO) install --quiet --root build/bench/tools bita
	python3 tests/bench/delta.py target/release/bty docs/benchmarks-delta.md

bench-python: ## what Python adds, and the module beside the reference package; 10 min
	tests/install-packages.sh tests/bench/packages.txt
	tests/reference/setup.sh target/reference
	$(CARGO) build --release -p bty-py
	python3 tests/bench/python.py target/release/lib_bty.so target/reference docs/benchmarks-python.md

# --- the rest ---

packages: ## installs the Debian packages that tests use
	@tests/step packages tests/install-packages.sh tests/packages.txt

clean: ## removes everything that was built
	$(CARGO) clean
	rm -rf build
