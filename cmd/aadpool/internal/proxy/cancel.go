package proxy

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// cancels knows which server each cancel key belongs to. The zero value is ready.
type cancels struct {
	mu      sync.Mutex // guards servers
	servers map[string]*pgwire.Server
}

// cancelKey is the key of a session: the number of the server's process, and the secret.
func cancelKey(pid uint32, secret []byte) string {
	return string(append(binary.BigEndian.AppendUint32(nil, pid), secret...))
}

func (c *cancels) add(key string, server *pgwire.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers == nil {
		c.servers = map[string]*pgwire.Server{}
	}
	c.servers[key] = server
}

// remove leaves the key alone if it has come to be another session's.
func (c *cancels) remove(key string, server *pgwire.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[key] == server {
		delete(c.servers, key)
	}
}

func (c *cancels) server(key string) *pgwire.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[key]
}

// cancel forwards a cancel request to the server that its key belongs to, over TLS where the session has it. The
// client is told nothing, whatever comes of it, as by PostgreSQL; its connection ends when the server has dealt with
// the request.
func (u *upstream) cancel(ctx context.Context, request *pgproto3.CancelRequest) {
	if asksToLetGo(request) {
		u.letGo()
		return
	}
	server := u.proxy.cancels.server(cancelKey(request.ProcessID, request.SecretKey))
	if server == nil {
		u.logger.Debug("a cancel request is for no session of this proxy")
		return
	}
	u.metrics.cancels.Add(1)
	if err := server.Cancel(ctx, request); err != nil {
		u.logger.Warn("a cancel request did not reach the server", "server", server.Address, "error", line(err))
	}
}
