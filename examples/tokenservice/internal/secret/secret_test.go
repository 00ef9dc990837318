package secret

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var cheap = Argon2id{MemoryKiB: 64, Iterations: 1, Parallelism: 1}

func TestVerify(t *testing.T) {
	ctx := context.Background()
	hasher := NewHasher(cheap, 1)
	s, other := NewClientSecret(), NewClientSecret()
	hash, err := hasher.Hash(ctx, s)
	require.NoError(t, err)
	stronger, err := NewHasher(Argon2id{MemoryKiB: 128, Iterations: 2, Parallelism: 1}, 1).Hash(ctx, s)
	require.NoError(t, err)
	for _, row := range []struct {
		name   string
		secret ClientSecret
		hash   *Hash
		want   bool
	}{
		{"the secret", s, &hash, true},
		{"the secret, hashed with other parameters", s, &stronger, true},
		{"another secret", other, &hash, false},
		{"what is no secret", ParseClientSecret("guess"), &hash, false},
		{"no hash", s, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := hasher.Verify(ctx, row.secret, row.hash)
			require.NoError(t, err)
			assert.Equal(t, row.want, got)
		})
	}
}

func TestVerifyWaitsNoLongerThanItsContext(t *testing.T) {
	hasher := NewHasher(cheap, 1)
	hasher.slots <- struct{}{} // the only place is taken
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := hasher.Verify(ctx, NewClientSecret(), nil)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestParseClientSecret(t *testing.T) {
	s := NewClientSecret()
	text := s.Reveal()
	assert.Len(t, text, 60)
	assert.Equal(t, s, ParseClientSecret(text))
	for name, bad := range map[string]string{
		"empty":                  "",
		"without its prefix":     strings.TrimPrefix(text, "tss_"),
		"cut":                    text[:59],
		"longer":                 text + "A",
		"no mark between":        text[:16] + "A" + text[17:],
		"a byte that is not one": text[:20] + "\x00" + text[21:],
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, ClientSecret{}, ParseClientSecret(bad)) })
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	s, token := NewClientSecret(), NewRefreshToken()
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "secret", s, "token", token)
	printed := fmt.Sprintf("%v %+v %#v %s %v %+v %#v %s", s, s, s, s, token, token, token, token) + log.String()
	assert.NotContains(t, printed, s.random)
	assert.NotContains(t, printed, token.text)
	assert.NotContains(t, printed, strings.TrimPrefix(token.text, "tsr_"))
}

// A turn that is free is not spent on a client that has gone.
func TestNothingIsComputedForAContextThatHasEnded(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	hasher := NewHasher(Argon2id{MemoryKiB: 8, Iterations: 1, Parallelism: 1}, 1)
	for range 100 {
		_, err := hasher.Verify(ended, NewClientSecret(), nil)
		require.ErrorIs(t, err, context.Canceled)
	}
}
