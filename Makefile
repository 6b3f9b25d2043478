# Every target does its own set-up; all that is needed beforehand is Rust and make.

CARGO ?= cargo

# PG=14 (15, 16, 17, 18): a server of that version, whatever else is on the machine. PG_BIN=/folder/of/initdb: that very one.
ifdef PG
ifdef PG_BIN
$(error PG=$(PG) and PG_BIN=$(PG_BIN): give one of them)
endif
WITH_PG := PG_BIN="$$(.ci/postgres-of-version.sh $(PG))" && export PG_BIN &&
endif

# Names of tests, or parts of them; without, all.
TESTS ?=

.PHONY: help demo test browser check bench chaos soak fuzz fuzz-compilers postgres-server cargo-deny

help:
	@echo "make demo   see the whole program at work on a throwaway Postgres and a fake WeChat (ARGS=--keep: it stays up)"
	@echo "make test   run every test, each on a database of its own (PG=14|15|16|17|18: on that Postgres; TESTS='schema:: kernel::')"
	@echo "make chaos  break everything under load and compare every row (SCENARIOS='kill_9 disk_full' SENDS=40000 SEED=7)"
	@echo "make soak   steady load with faults; memory, connections and table sizes as CSV and SVG (SECS=3600 RATE=150)"
	@echo "make fuzz   the fuzz targets with the nightly compiler (TARGETS='xml data' FUZZ_SECS=3600)"
	@echo "make browser   the console in a real Chromium, each page, both languages; needs npm and chromium (PICTURES=folder keeps pictures)"
	@echo "make check  formatting, lints, documentation, licences and sources of dependencies"
	@echo "make bench  measure it against its ceilings and its peers (ROUNDS=3 SCENARIOS=drain,wake; see bench/README.md)"

demo: postgres-server
	$(WITH_PG) $(CARGO) run --locked -- demo $(ARGS)

test: postgres-server
	$(WITH_PG) $(CARGO) test --locked --no-fail-fast $(if $(TESTS),--test it -- $(TESTS))

# CHROMIUM=/path/to/chromium where it is not /usr/bin/chromium; PICTURES=folder keeps pictures there.
browser: postgres-server
	$(CARGO) build --locked
	cd tests/browser && npm ci --no-audit --no-fund
	$(WITH_PG) cd tests/browser && WXNOTIFY="$(abspath target/debug/wxnotify)" $(if $(PICTURES),PICTURES="$(abspath $(PICTURES))") npm test

check: cargo-deny
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	$(CARGO) deny check licenses bans sources
	cd bench && $(CARGO) check

SENDS ?= 40000
SEED ?= 7
REPORT ?= chaos.md

# One scenario at a time: each brings a server and several workers of its own. Without SCENARIOS all of them.
chaos: postgres-server
	@printf '%s\n' '| scenario | sends | accepted | faults | doubts | lost | twice, recorded | twice, unrecorded | twice on hold | recovery | throughput kept | violations |' \
	    '|---|---|---|---|---|---|---|---|---|---|---|---|' >"$(REPORT)"
	$(WITH_PG) WXNOTIFY_CHAOS_SENDS=$(SENDS) WXNOTIFY_CHAOS_SEED=$(SEED) WXNOTIFY_CHAOS_REPORT="$(abspath $(REPORT))" \
	    $(CARGO) test --locked --test chaos -- --nocapture --test-threads 1 --include-ignored --skip soak $(SCENARIOS)
	@cat "$(REPORT)"

SECS ?= 3600
RATE ?= 150

soak: postgres-server
	$(WITH_PG) WXNOTIFY_SOAK_SECS=$(SECS) WXNOTIFY_SOAK_RATE=$(RATE) WXNOTIFY_SOAK_FOLDER="$(abspath docs/reliability)" \
	    $(CARGO) test --locked --test chaos -- --nocapture --ignored soak

ROUNDS ?= 3
SCENARIOS ?=
BENCH_FLAGS ?=

# A crate with a lock file of its own, which follows ours and so is not --locked. Node.js is needed for two peers alone;
# without it they are left out.
bench: postgres-server
	@if command -v npm >/dev/null; then cd bench/node && npm ci --no-audit --no-fund; fi
	cd bench && $(CARGO) build --release
	cd bench && "$${CARGO_TARGET_DIR:-target}/release/wxnotify-bench" run --rounds $(ROUNDS) \
	    $(if $(SCENARIOS),--scenarios $(SCENARIOS)) $(BENCH_FLAGS) \
	    $$(command -v npm >/dev/null || echo --without graphile-node,pg-boss)

TARGETS ?= callback xml json data
FUZZ_SECS ?= 600
NIGHTLY ?= nightly

# One after the other; what is found stands in fuzz/artifacts. `cargo test` replays fuzz/seeds with any compiler.
fuzz: fuzz-compilers
	@for target in $(TARGETS); do \
	    mkdir -p "fuzz/corpus/$$target" || exit 1; \
	    $(CARGO) +$(NIGHTLY) fuzz run "$$target" "fuzz/corpus/$$target" "fuzz/seeds/$$target" -- \
	        -max_total_time=$(FUZZ_SECS) -timeout=10 -rss_limit_mb=512 -max_len=8192 -print_final_stats=1 || exit 1; \
	done

# Never installed unasked: the rest of the project needs neither.
fuzz-compilers:
	@rustup run $(NIGHTLY) rustc --version >/dev/null 2>&1 || { \
	    echo "make: fuzzing needs the compiler \"$(NIGHTLY)\", which is not installed: \`rustup toolchain install $(NIGHTLY) --profile minimal\`, then again (\`cargo test --test it fuzz_seeds\` replays the kept inputs without it)" >&2; \
	    exit 1; }
	@command -v c++ >/dev/null || { \
	    echo "make: fuzzing needs a C++ compiler called c++, and there is none in PATH: install g++ or clang, then again" >&2; \
	    exit 1; }
	@command -v cargo-fuzz >/dev/null || { \
	    echo "make: installing cargo-fuzz, which builds and runs the fuzz targets"; \
	    $(CARGO) install --locked cargo-fuzz; }

# Advisories are left out of `check`, which must pass without the network: `cargo deny check advisories`.
cargo-deny:
	@command -v cargo-deny >/dev/null || { \
	    echo "make: installing cargo-deny, which checks the dependencies' licences and sources"; \
	    $(CARGO) install --locked cargo-deny; }

postgres-server:
	@$(if $(PG),.ci/postgres-of-version.sh $(PG) >/dev/null,.ci/ensure-postgres.sh)
