//go:build tools

// Package tools names what tests/krew/test builds: the real krew and its manifest validator.
package tools

import (
	_ "sigs.k8s.io/krew/cmd/krew"
	_ "sigs.k8s.io/krew/cmd/validate-krew-manifest"
)
