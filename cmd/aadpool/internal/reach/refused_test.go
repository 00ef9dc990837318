package reach

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/freeport"
)

func TestIsRefused(t *testing.T) {
	_, closed := net.Dial("tcp", freeport.For(t))
	require.Error(t, closed)
	for _, row := range []struct {
		name string
		err  error
		want bool
	}{
		{"a closed port of this machine", closed, true},
		{"one of Windows", &net.OpError{Op: "dial", Err: os.NewSyscallError("connectex", syscall.Errno(10061))}, true},
		{"one of several addresses", errors.Join(os.ErrDeadlineExceeded, fmt.Errorf("192.0.2.1: %w", closed)), true},
		{"no answer", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, false},
		{"another that says the same", errors.New("connection refused"), false},
		{"nothing", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, IsRefused(row.err)) })
	}
}
