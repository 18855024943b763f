# Needs Debian 12, root, Rust, Go and make; installs everything else.
.PHONY: demo test bench package range range-down

# Install and build everything, boot the range, run recon on real pods, take the range down.
demo:
	tests/demo

# Run every check.
test:
	tests/all

# Times of a run beside a floor measured in the same run.
bench: range
	cargo build --release --locked --bins --examples
	tests/bench/bench

# Archives, checksums and the krew manifest, below target/package.
package:
	tests/install
	krew/package

# A real, network-isolated Kubernetes (tests/range/README.md).
range:
	tests/range/up

range-down:
	tests/range/down
