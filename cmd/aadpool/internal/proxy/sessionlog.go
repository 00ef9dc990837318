package proxy

import (
	"time"

	"github.com/aadpool/aadpool/internal/token"
)

// How a session has ended, as the log has it.
const (
	endedByClient   = "client"      // it has said so
	endedClientGone = "client-gone" // it hung up, or took nothing any more
	endedByServer   = "server"
	endedByShutdown = "shutdown"
	endedUnresolved = "unresolved" // by the shutdown, before the server had answered
)

// A sessionRecord is what the log tells of a session.
type sessionRecord struct {
	began time.Time
	who   []any // the client and what it is connected to

	// Each is of the goroutine that passes on in that direction.
	bytesToServer, bytesToClient, answers int64
}

// who is a client, for the log: by the kernel's word, or its address, and by its own.
func (c *client) who() []any {
	var attrs []any
	if c.peer != nil {
		attrs = append(attrs, "uid", c.peer.UID, "pid", c.peer.PID)
	}
	if !c.listener.unix {
		attrs = append(attrs, "client", c.accepted.RemoteAddr().String())
	}
	if c.startup != nil {
		attrs = append(attrs, "user", told(c.startup.Parameters["user"]))
	}
	return attrs
}

// uid is the user of the client's process, or nil where that is not known.
func (c *client) uid() any {
	if c.peer == nil {
		return nil
	}
	return c.peer.UID
}

// maxTold bounds what somebody else has said: PostgreSQL cuts names at 63 bytes.
const maxTold = 200

// told is what somebody else has said, for the log.
func told(text string) string {
	text = token.Redact(text)
	return text[:min(len(text), maxTold)]
}

// logBegin records that the client is in.
func (s *session) logBegin(c *client, up *login) {
	s.record.began = time.Now()
	if s.upstream.proxy.config.QuietSessions {
		return
	}
	s.record.who = append(c.who(), "role", told(up.role), "database", told(up.database),
		"application_name", told(up.parameters["application_name"]), "server", up.server.Address, "server_pid", up.pid)
	s.upstream.logger.Info("a session has begun", s.record.who...)
}

// endedBy notes how the session ends. The first that is said of it stands.
func (s *session) endedBy(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == "" {
		s.ended = how
	}
}

// logEnd records that the session has ended, and what it was.
func (s *session) logEnd() {
	if s.record.who == nil {
		return
	}
	ended := s.ended
	if s.exchange.saidGoodbye() {
		ended = endedByClient
	}
	r := &s.record
	s.upstream.logger.Info("a session has ended", append(r.who, "ended", ended,
		"lasted", time.Since(r.began).Round(time.Microsecond).String(),
		"bytes_to_server", r.bytesToServer, "bytes_to_client", r.bytesToClient, "answers", r.answers)...)
}
