package secret

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSuccessor(t *testing.T) {
	used, next := NewRefreshToken(), NewRefreshToken()
	sealed := used.SealSuccessor(next)
	assert.NotContains(t, string(sealed), next.Reveal())
	assert.NotEqual(t, sealed, used.SealSuccessor(next), "each seal has its own nonce")
	opened, err := used.OpenSuccessor(sealed)
	require.NoError(t, err)
	assert.Equal(t, next, opened)

	changed := append([]byte{}, sealed...)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() (RefreshToken, error){
		"another token": func() (RefreshToken, error) { return next.OpenSuccessor(sealed) },
		"what the database has of the token": func() (RefreshToken, error) {
			return ParseRefreshToken(string(used.Hash())).OpenSuccessor(sealed)
		},
		"a changed seal": func() (RefreshToken, error) { return used.OpenSuccessor(changed) },
		"half a seal":    func() (RefreshToken, error) { return used.OpenSuccessor(sealed[:5]) },
	} {
		t.Run(name, func(t *testing.T) {
			opened, err := open()
			assert.ErrorIs(t, err, ErrOtherToken)
			assert.Zero(t, opened)
		})
	}
}
