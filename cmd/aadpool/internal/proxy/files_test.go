package proxy

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRoomWithinALimitOnOpenFiles(t *testing.T) {
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
		{"one in which nothing fits", 10, Config{MaxSessions: 1000}, 1, 4},
		{"few sessions", 60, Config{MaxSessions: 3}, 3, 42},
	} {
		sessions, spare := room(row.limit, row.config)
		assert.Equal(t, row.sessions, sessions, row.name)
		assert.Equal(t, row.spare, spare, row.name)
	}
}
