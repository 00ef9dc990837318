package freeport_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/freeport"
)

func TestAddressIsNoneThatTheKernelGivesAway(t *testing.T) {
	for range 100 {
		host, port, err := net.SplitHostPort(freeport.For(t))
		require.NoError(t, err)
		assert.Equal(t, "127.0.0.1", host)
		number, err := strconv.Atoi(port)
		require.NoError(t, err)
		assert.Greater(t, number, 1024)
		assert.Less(t, number, 32768)
	}
}
