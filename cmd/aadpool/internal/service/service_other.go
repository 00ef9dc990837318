//go:build !windows

package service

import (
	"context"
	"io"
)

// Run reports that this is no service of Windows.
func Run(func(ctx context.Context, log io.Writer) int) (status int, is bool) { return 0, false }
