# What there is to do here. Nothing but Rust, Go and root on Debian 12 is needed: the rest is installed.
.PHONY: demo test bench package range range-down

# Everything installed and built, the range up, a run on real pods, the range down.
demo:
	tests/demo

# Everything checked.
test:
	tests/all

# Times of a run beside a floor measured in the same run.
bench: range
	cargo build --release --locked --bins --examples
	tests/bench/bench

# Archives, checksums and the krew manifest, below target/package.
package:
	krew/package

# A real Kubernetes with no way out (tests/range/README.md).
range:
	tests/range/up

range-down:
	tests/range/down
