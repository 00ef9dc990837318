package proxy

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
)

func TestRoomWithinALimitOnOpenFiles(t *testing.T) {
	one, another := &aadpool.Hook{}, &aadpool.Hook{}
	for _, row := range []struct {
		name            string
		limit           uint64
		config          Config
		sessions, spare int
	}{
		{"no limit", 0, Config{MaxSessions: 1000}, 1000, 1100},
		{"a high one", 1 << 20, Config{MaxSessions: 1000}, 1000, 1100},
		{"none that a number holds", 1<<64 - 1, Config{MaxSessions: 1000}, 1000, 1100},
		{"one with room for all sessions, and little beside them", 2048, Config{MaxSessions: 1000}, 1000, 36},
		{"one that is too low", 60, Config{MaxSessions: 1000}, 22, 4},
		{"one that is too low, with a listener and health", 64,
			Config{MaxSessions: 1000, Upstreams: []*Upstream{{Listen: []string{"x"}}}, HTTP: "y"},
			15, 5},
		{"two upstreams, of one identity", 64,
			Config{MaxSessions: 1000, Upstreams: []*Upstream{{Hook: one}, {Hook: one}}}, 23, 4},
		{"two upstreams, each with an identity", 64,
			Config{MaxSessions: 1000, Upstreams: []*Upstream{{Hook: one}, {Hook: another}}}, 22, 4},
		{"one in which nothing fits", 10, Config{MaxSessions: 1000}, 1, 4},
		{"few sessions", 60, Config{MaxSessions: 3}, 3, 42},
	} {
		sessions, spare := room(row.limit, row.config)
		assert.Equal(t, row.sessions, sessions, row.name)
		assert.Equal(t, row.spare, spare, row.name)
	}
}

// More upstreams leave less room, and the log says so once.
func TestReloadLooksAtTheLimitOnOpenFiles(t *testing.T) {
	a := newAzure(t)
	config, upstreams := a.named(t, "a", "b")
	config.Upstreams = upstreams[:1]
	config.MaxSessions = 1 << 30 // more than any limit
	var log lockedBuffer
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	p, _ := startProxyOf(t, config)
	before := p.places.limit()
	for range 2 {
		require.NoError(t, p.Reload(upstreams))
	}
	assert.Equal(t, before-1, p.places.limit(), "a socket and its lock are two files, as a session has")
	assert.Equal(t, 2, strings.Count(log.String(), "the limit on open files leaves room"), "at the start, and once more")
}
