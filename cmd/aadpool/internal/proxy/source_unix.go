//go:build unix

package proxy

import (
	"io"
	"net"
	"os"
	"syscall"
)

// A pollConn is a connection that can be asked whether there is something to read, without a buffer.
type pollConn struct {
	net.Conn
	raw syscall.RawConn
	// fd is the file descriptor while Read is to return errWouldBlock rather than wait, and else -1. It is the reader's.
	fd int
}

// pollable returns conn so that it can be a session's.
func pollable(conn net.Conn) net.Conn {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return conn
	}
	return &pollConn{Conn: conn, raw: raw, fd: -1}
}

// SyscallConn is syscall.Conn's.
func (c *pollConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// CloseWrite is that of TCP and Unix sockets.
func (c *pollConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *pollConn) Read(b []byte) (int, error) {
	if c.fd < 0 {
		return c.Conn.Read(b)
	}
	for {
		n, err := readNow(c.fd, b)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, errWouldBlock
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Write writes all of b, as conn's Write does, but by writeNow.
func (c *pollConn) Write(b []byte) (n int, err error) {
	waited := c.raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			written, errno := writeNow(int(fd), b[n:])
			switch {
			case errno == syscall.EINTR:
			case errno == syscall.EAGAIN:
				return false
			case errno != nil:
				err = os.NewSyscallError("write", errno)
				return true
			default:
				n += written
			}
		}
		return true
	})
	if err == nil {
		err = waited
	}
	return n, err
}

// errWouldBlock is temporary, and so TLS goes on after it.
var errWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "nothing to read yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// A source is the reading side of a peer. It holds a buffer only while there is something in it.
type source struct {
	conn    net.Conn
	poll    *pollConn // what conn runs on; nil if it is something else
	early   []byte    // what has been read before
	buffer  *[bufferSize]byte
	attempt func(fd uintptr) bool // s.try, made once: it is on the way of every message

	n   int // what try has read
	err error
}

func newSource(conn, accepted net.Conn, early []byte) *source {
	poll, _ := accepted.(*pollConn)
	s := &source{conn: conn, poll: poll, early: early}
	s.attempt = s.try
	return s
}

// next waits for the next piece, which is there until release.
func (s *source) next() (piece []byte, err error) {
	if piece, s.early = s.early, nil; len(piece) > 0 {
		return piece, nil
	}
	if s.poll == nil {
		s.buffer = buffers.Get().(*[bufferSize]byte)
		n, err := s.conn.Read(s.buffer[:])
		return s.buffer[:n], err
	}
	if err := s.poll.raw.Read(s.attempt); err != nil {
		return nil, err
	}
	return s.buffer[:s.n], s.err
}

// try reads what there is. It reports false if that is nothing.
func (s *source) try(fd uintptr) bool {
	s.buffer = buffers.Get().(*[bufferSize]byte)
	s.poll.fd = int(fd)
	s.n, s.err = s.conn.Read(s.buffer[:])
	s.poll.fd = -1
	if s.err != errWouldBlock {
		return true
	}
	s.err = nil
	if s.n > 0 {
		return true
	}
	s.release()
	return false
}

// release gives the buffer back.
func (s *source) release() {
	if s.buffer != nil {
		buffers.Put(s.buffer)
		s.buffer = nil
	}
}
