package proxy

import (
	"math"

	"github.com/aadpool/aadpool"
)

// Files that a proxy opens. A session has two, its client's and its server's, and a client that starts up has one until
// it logs in.
const (
	// ownFiles are those that are nobody's: the standard ones, the poller's, a socket and its lock, a TCP listener, the
	// connections for a token, a cancel request.
	ownFiles = 12

	// socketFiles are a Unix socket and its lock: of an upstream, and of an identity that aadpool token asks.
	socketFiles = 2

	// spareFiles are at least left for clients to whom the proxy has something to say, such as that it has no room.
	spareFiles = 4
)

// room is how many sessions fit into a limit on open files, up to the most that are wanted, and how many clients may
// start up besides. A limit of 0 is none.
func room(limit uint64, c Config) (sessions, spare int) {
	sessions, spare = c.MaxSessions, c.MaxSessions+maxExtraStarting
	if limit == 0 || limit > math.MaxInt32 {
		return sessions, spare
	}
	files := int(limit) - ownFiles
	hooks := map[*aadpool.Hook]bool{}
	for i, u := range c.Upstreams {
		files -= len(u.Listen)
		if i > 0 { // the first one's are among its own
			files -= socketFiles
			if !hooks[u.Hook] {
				files -= socketFiles
			}
		}
		hooks[u.Hook] = true
	}
	if c.HTTP != "" {
		files -= maxHTTPConns
	}
	sessions = max(1, min(sessions, (files-spareFiles)/2))
	return sessions, max(spareFiles, min(spare, files-2*sessions))
}
