//go:build tools

// Package engine pins the source of Docker 29, which Debian does not have.
package engine

import _ "github.com/moby/moby/v2/cmd/dockerd"
