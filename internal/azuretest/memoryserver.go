package azuretest

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Frame is a message of a server's: https://www.postgresql.org/docs/current/protocol-message-formats.html.
func Frame(kind byte, body ...byte) []byte {
	message := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(message, body...)
}

// What a server says to one that it lets in, to one that it does not, and when it ends a session.
var (
	LetsIn  = slices.Concat(Frame('R', 0, 0, 0, 3), Frame('R', 0, 0, 0, 0), Frame('Z', 'I'))
	Refuses = slices.Concat(Frame('R', 0, 0, 0, 3),
		Frame('E', []byte("SFATAL\x00C28P01\x00Mpassword authentication failed for user \"orders-api\"\x00\x00")...))
	EndsSession = Frame('E',
		[]byte("SFATAL\x00VFATAL\x00C57P01\x00Mterminating connection due to administrator command\x00\x00")...)
)

// A MemoryServer is in memory, for tests in a bubble. It refuses every login until it is told otherwise, and answers
// pings and queries of the simple protocol.
type MemoryServer struct {
	Delay    time.Duration // of each login
	LetIn    atomic.Bool
	Down     atomic.Bool // nothing answers
	Hung     atomic.Bool // sessions that are open hear nothing, and new ones are served
	EndsNext atomic.Bool // the next query ends its session, as an administrator does
	Logins   atomic.Int64

	mu       sync.Mutex
	sessions []net.Conn // guarded by mu
}

// NewMemoryServer makes one that lets everybody in.
func NewMemoryServer(delay time.Duration) *MemoryServer {
	s := &MemoryServer{Delay: delay}
	s.LetIn.Store(true)
	return s
}

// Dial makes a connection to it: a config's DialFunc.
func (s *MemoryServer) Dial(context.Context, string, string) (net.Conn, error) {
	s.Logins.Add(1)
	if s.Down.Load() {
		return nil, syscall.ECONNREFUSED
	}
	client, server := net.Pipe()
	time.Sleep(s.Delay)
	go s.serve(server)
	return memoryConn{client}, nil
}

// A memoryConn has an address, as others have.
type memoryConn struct{ net.Conn }

func (memoryConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5432} }

// Drop has the network forget some of the sessions, by the order in which they began.
func (s *MemoryServer) Drop(from, to int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.sessions[from:to] {
		_ = conn.Close()
	}
}

func (s *MemoryServer) serve(conn net.Conn) {
	defer conn.Close()
	script := Refuses
	if s.LetIn.Load() {
		script = LetsIn
	}
	s.mu.Lock()
	s.sessions = append(s.sessions, conn)
	s.mu.Unlock()
	mayHang := !s.Hung.Load()
	go func() { _, _ = conn.Write(script) }()
	heard := make([]byte, 4096)
	for {
		n, err := conn.Read(heard)
		if err != nil {
			return
		}
		if n == 0 || heard[0] != 'Q' {
			continue
		}
		switch {
		case s.EndsNext.CompareAndSwap(true, false):
			_, _ = conn.Write(EndsSession)
			return
		case mayHang && s.Hung.Load():
		default:
			_, _ = conn.Write(slices.Concat(Frame('I'), Frame('Z', 'I')))
		}
	}
}
