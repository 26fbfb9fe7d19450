# The project's usual commands. `just` alone lists them.

default:
    @just --list

# The main job.
train *FLAGS:
    cargo run --release -- train {{FLAGS}}

# The README's test command.
test:
    cargo test --workspace

# Quicker, with cargo-nextest.
quick *FLAGS:
    cargo nextest run --workspace {{FLAGS}}

# How fast the kernels are, beside naive code and beside the memory.
bench *FLAGS:
    cargo run --release -- bench kernels {{FLAGS}}

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# What fails by seed, and processes that are killed: many of both.
chaos SEEDS='10000' KILLS='100':
    SIGNVOTE_SEEDS={{SEEDS}} SIGNVOTE_KILLS={{KILLS}} cargo test --workspace --test chaos -- --nocapture --test-threads 1

# Figures of the documentation: a quiet machine gives better ones.
figures:
    cargo test --release -p signvote --test figures -- --ignored --nocapture
    cargo run --release -- bench exchange

# Rewrites the wire format's golden bytes. A change there is a change of the protocol: see CONTRIBUTING.md.
golden:
    SIGNVOTE_REWRITE_GOLDEN=1 cargo test -p signvote-election --test golden

# Everything that must hold before a change lands.
ci:
    bash .ci/run
