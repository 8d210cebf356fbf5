//go:build tools

// Package tools names the program that is built.
package tools

import _ "github.com/distribution/distribution/v3/cmd/registry"
