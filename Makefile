# What there is to do here. The range: a real Kubernetes with no way out (tests/range/README.md).
.PHONY: range range-down

range:
	tests/range/up

range-down:
	tests/range/down
