package signingkey

import (
	"crypto/rsa"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeysAreReusedOnlyWhenAsked(t *testing.T) {
	seen := map[*rsa.PrivateKey]int{}
	one, err := New()
	require.NoError(t, err)
	other, err := New()
	require.NoError(t, err)
	assert.False(t, one.Equal(other), "each stand-in of a user's test has a key of its own")

	Reuse()
	t.Cleanup(func() { reused.on = false })
	var last *rsa.PrivateKey
	for range 3 * len(reused.keys) {
		key, err := New()
		require.NoError(t, err)
		assert.NotSame(t, last, key, "neighbours differ")
		last = key
		seen[key]++
	}
	assert.Len(t, seen, len(reused.keys))
}
