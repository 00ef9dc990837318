package proxy

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// scriptedDrain is the time that a scripted session's proxy gives to sessions.
const scriptedDrain = 10 * time.Second

// A scriptedSession is one whose client and server say what a test has them say, in a synctest bubble.
type scriptedSession struct {
	proxy                        *upstream
	client, server               net.Conn // what the two sides hold
	heardByClient, heardByServer recording
	cancels                      atomic.Int32

	drained time.Time // when the drain began
	ending  sync.WaitGroup
}

func newScriptedUpstream(t *testing.T) *upstream {
	p := &upstream{
		proxy:  &Proxy{config: Config{Drain: scriptedDrain, limits: limits{}.orDefaults()}, places: &places{}},
		config: &Upstream{}, sessions: map[*session]struct{}{}, logger: slog.New(slog.DiscardHandler),
		metrics: newMetrics(""),
	}
	p.closing, p.close = context.WithCancel(t.Context())
	p.loggingIn, p.endLogins = context.WithCancel(p.closing)
	p.refusals.logger = p.logger
	return p
}

func newScriptedSession(t *testing.T) *scriptedSession {
	p := newScriptedUpstream(t)
	ss := &scriptedSession{proxy: p}
	var toServer, toClient net.Conn
	ss.server, toServer = net.Pipe()
	ss.client, toClient = net.Pipe()
	target := &pgwire.Server{Dial: func(context.Context, string, string) (net.Conn, error) {
		ss.cancels.Add(1)
		return nil, net.ErrClosed
	}}
	s := &session{upstream: p, client: newPeer(toClient, toClient, nil), server: newPeer(toServer, toServer, nil),
		target: target, ready: true}
	p.sessions[s] = struct{}{}
	go s.run()
	ss.ending.Go(func() { ss.heardByServer.record(ss.server) })
	return ss
}

// play does what a script says, a step after the other:
// - "client Q" and "server C ZI" have a side say messages by their types, "Q…" the first half of one, and "…Q" the
// other;
//   - "hangup" has the server hang up;
//   - "drain" has the proxy end;
//   - "its end" waits for the end of its time.
func (ss *scriptedSession) play(t *testing.T, script []string) {
	for _, step := range script {
		who, what, _ := strings.Cut(step, " ")
		switch who {
		case "client":
			ss.say(t, ss.client, what)
		case "server":
			ss.say(t, ss.server, what)
		case "hangup":
			_ = ss.server.Close()
		case "drain":
			ss.drained = time.Now()
			ss.ending.Go(ss.proxy.drain)
		case "its":
			time.Sleep(time.Until(ss.drained.Add(scriptedDrain + time.Millisecond)))
		default:
			require.Fail(t, step)
		}
		synctest.Wait()
	}
}

// say writes without waiting: who is to hear it may not listen.
func (ss *scriptedSession) say(t *testing.T, conn net.Conn, what string) {
	var said []byte
	for kind := range strings.FieldsSeq(what) {
		said = append(said, messageOf(kind)...)
	}
	ss.ending.Go(func() { _, _ = conn.Write(said) })
}

// messageOf is a message by its type, with the status of a ReadyForQuery behind it.
func messageOf(kind string) []byte {
	name := strings.Trim(kind, "…")
	body := []byte(name[1:])
	if len(body) == 0 {
		body = []byte("body")
	}
	message := append(binary.BigEndian.AppendUint32([]byte{name[0]}, uint32(4+len(body))), body...)
	switch {
	case strings.HasSuffix(kind, "…"):
		return message[:7]
	case strings.HasPrefix(kind, "…"):
		return message[7:]
	}
	return message
}

// A recording is what a side has heard.
type recording struct {
	mu    sync.Mutex // guards what follows
	heard []byte
	ended time.Time
}

func (r *recording) record(conn net.Conn) {
	for b := make([]byte, 1000); ; {
		n, err := conn.Read(b)
		r.mu.Lock()
		r.heard = append(r.heard, b[:n]...)
		if err != nil || anySQLState.Match(r.heard) { // the last word
			r.ended = time.Now()
			r.mu.Unlock()
			_ = conn.Close()
			return
		}
		r.mu.Unlock()
	}
}

var anySQLState = regexp.MustCompile(`\x00C(\w{5})\x00`)

// messages are those that were heard, by their types, and errors of the proxy's by their SQLSTATE.
func (r *recording) messages() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kinds []string
	for rest := r.heard; len(rest) > 0; {
		if len(rest) < 5 || len(rest) < 1+int(binary.BigEndian.Uint32(rest[1:])) {
			kinds = append(kinds, string(rest[:1])+"…")
			break
		}
		message := rest[:1+binary.BigEndian.Uint32(rest[1:])]
		kind := string(message[:1])
		if kind == "Z" {
			kind += string(message[5:])
		}
		if state := anySQLState.FindSubmatch(message); state != nil {
			kind = string(state[1])
		}
		kinds = append(kinds, kind)
		rest = rest[len(message):]
	}
	return strings.Join(kinds, " ")
}

// What a client is told of what it asked for is true, whatever the end meets: 57P01 where nothing of it can come about,
// 08007 where that is not known.
func TestLastWordOfASession(t *testing.T) {
	const atOnce, atTheEnd, unanswered = 0, scriptedDrain, scriptedDrain + settleTimeout
	for _, row := range []struct {
		name           string
		script         []string
		server, client string // what they have heard in the end
		ends           time.Duration
		cancelled      bool
	}{
		{"idle", []string{"drain"},
			"", "57P01", atOnce, false},
		{"idle after a query", []string{"client Q", "server C ZI", "drain"},
			"Q", "C ZI 57P01", atOnce, false},
		{"in a transaction that ends", []string{"client Q", "server C ZT", "drain", "client Q", "server C ZI"},
			"Q Q", "C ZT C ZI 57P01", atOnce, false},
		{"in a transaction that does not end", []string{"client Q", "server C ZT", "drain", "its end"},
			"Q", "C ZT 57P01", atTheEnd, false},
		{"in a transaction that has failed", []string{"client Q", "server E ZE", "drain", "its end"},
			"Q", "E ZE 57P01", atTheEnd, false},
		{"a query that is answered", []string{"client Q", "drain", "server C ZI"},
			"Q", "C ZI 57P01", atOnce, false},
		{"a query that is answered when it is cancelled", []string{"client Q", "drain", "its end", "server E ZI"},
			"Q", "E ZI 57P01", atTheEnd, true},
		{"a query that is not answered", []string{"client Q", "drain", "its end"},
			"Q", "08007", unanswered, true},
		{"a query that is answered by half", []string{"client Q", "server D", "drain", "its end"},
			"Q", "D 08007", unanswered, true},
		{"a query whose answer stops in a message", []string{"client Q", "server D…", "drain", "its end"},
			"Q", "D…", unanswered + lingering, true},
		{"half a query", []string{"client Q…", "drain", "client …Q"},
			"Q…", "57P01", atOnce, false},
		{"a query that comes too late", []string{"client Q", "server C ZT", "drain", "its end", "client Q"},
			"Q", "C ZT 57P01", atTheEnd, false},
		{"a query behind one that is under way", []string{"client Q", "drain", "its end", "client Q", "server C ZI"},
			"Q", "C ZI 57P01", atTheEnd, true},
		{"a function call", []string{"client F", "drain", "its end", "server V ZI"},
			"F", "V ZI 57P01", atTheEnd, true},
		{"the server's own last word", []string{"client Q", "drain", "its end", "server E", "hangup"},
			"Q", "E", atTheEnd + lingering, true},

		{"a pipeline of which a part is answered", []string{"client P B E S P B E S", "server 1 2 C ZI", "drain", "its end",
			"server 1 2 C ZI"},
			"P B E S P B E S", "1 2 C ZI 1 2 C ZI 57P01", atTheEnd, true},
		{"a pipeline of which the rest is not answered", []string{"client P B E S P B E S", "server 1 2 C ZI", "drain",
			"its end"},
			"P B E S P B E S", "1 2 C ZI 08007", unanswered, true},
		{"an Execute whose Sync comes", []string{"client P B E", "server 1 2 C", "drain", "its end", "client B E S P B E S",
			"server 2 E ZI"},
			"P B E B E S", "1 2 C 2 E ZI 57P01", atTheEnd, true},
		{"an Execute whose Sync does not come", []string{"client P B E H", "server 1 2 C", "drain", "its end"},
			"P B E H", "1 2 C 08007", unanswered, true},
		{"nothing executed yet", []string{"client P D H", "server 1 t n", "drain"},
			"P D H", "1 t n 57P01", atOnce, false},

		{"a COPY of a query, in its data", []string{"client Q", "server G", "client d d…", "drain", "its end",
			"client …d d c"},
			"Q d d…", "G 57P01", atTheEnd, false},
		{"a COPY of a query, after its data", []string{"client Q", "server G", "client d c", "drain", "its end",
			"server C ZI"},
			"Q d c", "G C ZI 57P01", atTheEnd, true},
		{"a COPY of an Execute, in its data", []string{"client P B E S", "server 1 2 G", "client d", "drain", "its end",
			"client d c S"},
			"P B E S d", "1 2 G 57P01", atTheEnd, false},
		{"a COPY of an Execute, before its Sync", []string{"client P B E S", "server 1 2 G", "client d c", "drain", "its end",
			"client S", "server C ZI"},
			"P B E S d c S", "1 2 G C ZI 57P01", atTheEnd, true},
		{"a COPY of an Execute, after its Sync", []string{"client P B E S", "server 1 2 G", "client d c S", "drain",
			"its end", "server C ZI"},
			"P B E S d c S", "1 2 G C ZI 57P01", atTheEnd, true},
		{"idle after a COPY of an Execute", []string{"client P B E S", "server 1 2 G", "client d c S", "server C ZI",
			"drain"},
			"P B E S d c S", "1 2 G C ZI 57P01", atOnce, false},
		{"two COPYs of a query, in the second's data", []string{"client Q", "server G", "client d c", "server C G",
			"client d", "drain", "its end"},
			"Q d c d", "G C G 57P01", atTheEnd, false},
		{"a COPY whose data did not wait", []string{"client Q d c", "server G", "drain", "its end", "server C ZI"},
			"Q d c", "G C ZI 57P01", atTheEnd, true},
		{"a COPY whose data did not wait, and that is not answered", []string{"client Q d c", "server G", "drain", "its end"},
			"Q d c", "G 08007", unanswered, true},
		{"idle after a COPY that failed in its data", []string{"client Q", "server G", "client d", "server E ZI",
			"client d c", "drain"},
			"Q d d c", "G E ZI 57P01", atOnce, false},
		{"idle after a COPY of an Execute that failed in its data",
			[]string{"client P B E S", "server 1 2 G", "client d", "server E", "client d c S", "server ZI", "drain"},
			"P B E S d d c S", "1 2 G E ZI 57P01", atOnce, false},
		{"a query after a COPY that failed", []string{"client Q", "server G", "client d", "server E ZI", "client c",
			"client Q", "drain", "its end", "server C ZI"},
			"Q d c Q", "G E ZI C ZI 57P01", atTheEnd, true},

		{"a message of the server's that pauses", []string{"server A…", "drain", "its end", "server …A"},
			"", "A 57P01", atTheEnd, false},
		{"a message of the server's that does not end", []string{"server A…", "drain"},
			"", "A…", atTheEnd + 3*lingering, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ss := newScriptedSession(t)
				ss.ending.Go(func() { ss.heardByClient.record(ss.client) })
				ss.play(t, row.script)
				ss.ending.Wait()
				assert.Equal(t, row.server, ss.heardByServer.messages(), "what the server heard")
				assert.Equal(t, row.client, ss.heardByClient.messages(), "what the client heard")
				assert.InDelta(t, row.ends, ss.heardByClient.ended.Sub(ss.drained), float64(50*time.Millisecond))
				assert.Equal(t, row.cancelled, ss.cancels.Load() > 0, "cancel requests: %d", ss.cancels.Load())
			})
		})
	}
}

// A client that takes nothing keeps a session no longer than one whose server does not answer.
func TestLastWordToAClientThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ss := newScriptedSession(t)
		ss.play(t, []string{"client Q", "server C ZI", "drain"})
		ss.ending.Wait()
		assert.InDelta(t, scriptedDrain+2*lingering, time.Since(ss.drained), float64(50*time.Millisecond))
	})
}
